package main

import (
	"strings"

	"storeboot/internal/cli"
	"storeboot/launcher/vmm"
)

// kernelLine is the kernel's command line: what every guest needs, what this
// one is to do, then the user's own words, which thus have the last say.
func (j *job) kernelLine(arch string, network bool) (string, error) {
	serial := "ttyS0"
	if arch == "arm64" {
		serial = "ttyAMA0"
	}
	var words []string
	if j.closureParams != "" {
		// First, so that all others have the last say.
		words = append(words, j.closureParams)
	}
	words = append(words,
		"console="+serial,
		"panic=-1", // a panic restarts the guest at once, which ends the VM
	)
	if arch == "amd64" {
		words = append(words,
			"reboot=t",          // by a triple fault: the quickest way
			"tsc=reliable",      // do not measure the clock against another
			"no_timer_check",    // the timer of a VM works
			"8250.nr_uarts=1",   // do not look for other serial ports
			"i8042.noaux",       // nor for a mouse
			"i8042.nokbd",       // nor for a keyboard
			"cryptomgr.notests", // nor test the ciphers
		)
	}
	if j.commandLine == "" && !j.verbose && j.consoleLog == "" {
		// Nobody asked for the kernel's messages; errors and panics it prints all
		// the same.
		words = append(words, "quiet")
	}
	if network {
		words = append(words, "ip=dhcp")
	}
	if j.program {
		words = append(words, "storeboot.console=hvc0")
	} else if t := termType(); t != "" && j.terminal != nil {
		words = append(words, "TERM="+t) // the kernel gives it to init
	}
	for _, p := range j.parameters {
		w, err := vmm.Parameter(p.key, p.value)
		if err != nil {
			return "", cli.Usagef("%w", err)
		}
		words = append(words, w)
	}
	for _, s := range []string{j.commandLine, j.cmdline} {
		if s = strings.TrimSpace(s); s != "" {
			words = append(words, s)
		}
	}
	if len(j.initArgs) > 0 {
		words = append(words, "--")
	}
	for _, a := range j.initArgs {
		w, err := vmm.Argument(a)
		if err != nil {
			return "", cli.Usagef("%w", err)
		}
		words = append(words, w)
	}
	return strings.Join(words, " "), nil
}
