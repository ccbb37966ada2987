package main

import (
	"fmt"
	"io"
	"runtime/debug"

	"storeboot/init/boot"
	"storeboot/internal/bootproto"
)

// run is main with its surroundings as arguments, and returns the exit code.
// As PID 1 it boots the machine and never returns: the arguments are then the
// words that the kernel hands on, and not ours. Otherwise it changes nothing
// on the machine that it runs on.
func run(pid int, args []string, stdout, stderr io.Writer) int {
	if pid == 1 {
		boot.Machine()
		return 1
	}
	if len(args) > 0 {
		switch args[0] {
		case "--help", "-h":
			help(stdout)
			return 0
		case "--version":
			fmt.Fprintf(stdout, "init %s\n", version())
			return 0
		}
	}
	fmt.Fprintln(stderr, "init: this is not PID 1: init runs as /init of an initrd (mkinitrd build makes one, launcher boots it)")
	return 2
}

func help(w io.Writer) {
	fmt.Fprint(w, `init is PID 1 of a storeboot guest. mkinitrd puts it into an initrd as /init;
it does nothing on a host.

It mounts /proc, /sys, /dev, /run and /tmp, loads the modules that `+bootproto.BootSpecPath+`
lists, mounts the virtio-fs tag of the store read-only at /nix/store, and does
what the kernel command line says. Each parameter may be spelt tvix.NAME,
snix.NAME or storeboot.NAME:

`)
	for _, p := range bootproto.Parameters() {
		name := p.Name
		if p.Value != "" {
			name += "=" + p.Value
		}
		fmt.Fprintf(w, "  %-18s %s\n", name, p.Help)
	}
	fmt.Fprint(w, `
Its log is the kernel's (/dev/kmsg). When the work is done, or cannot be done,
it reports the outcome to the launcher and powers the machine off.

Flags (on a host only):
  -h, --help      this text
      --version   the version
`)
}

// version is the module's version as the Go tool recorded it. The other
// commands share internal/cli for this; init stays free of what that imports.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
