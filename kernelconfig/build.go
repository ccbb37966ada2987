package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
	"storeboot/kernelconfig/kbuild"
)

type buildOptions struct {
	fragmentOptions
	kbuild.Options
	output string
	set    []string
	json   bool
}

func newBuildCommand() *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build --source TARBALL|DIR [-o DIR]",
		Short: "Build a small kernel from source",
		Long: `build makes a kernel that has what the fragments ask for, all of it built in, and
little else: it starts without modules and in less time.

The source is a tar archive of Linux (from kernel.org, or a distribution's, as
/usr/src/linux-source-6.1.tar.xz of Debian's package linux-source-6.1) or a clean
directory. An option that Kconfig drops is an error that names what it depends on.
The same source, fragments and compiler give the same kernel, bit for bit; what is
built is kept by content (in storeboot/kernels of the cache directory), so that
asking again costs nothing. --lock FILE pins source, options and compiler.

Into the output directory go bzImage (arm64: Image), vmlinux, which cloud-hypervisor
and QEMU start directly, config-RELEASE, and manifest.json.`,
		Example: `  apt-get install linux-source-6.1 make gcc flex bison bc libelf-dev xz-utils
  kernelconfig build --source /usr/src/linux-source-6.1.tar.xz -f virtiofs,qemu -o kernel
  kernelconfig build --source linux-6.12 -f nixos,cloud-hypervisor --lock kernel.lock -o kernel
  launcher run --kernel kernel/bzImage /nix/store/...-hello/bin/hello`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.addFlags(c, "virtiofs", "qemu", "cloud-hypervisor")
	f := c.Flags()
	f.StringVar(&o.Source, "source", "", "build from this `TARBALL|DIR`")
	f.StringVarP(&o.output, "output", "o", "", "copy the kernel into this `DIR` (default: leave it in the cache, and print where)")
	f.StringArrayVar(&o.set, "set", nil, "set a further option: `NAME=VALUE`, with CONFIG_ before it or without; may be repeated")
	f.StringVar(&o.Lock, "lock", "", "build only from what this `FILE` pins; it is written if it is not there")
	f.BoolVar(&o.UpdateLock, "update-lock", false, "write the lock anew")
	f.StringVar(&o.Cross, "cross", "", "`PREFIX` of the compiler's name, as aarch64-linux-gnu-")
	f.IntVarP(&o.Jobs, "jobs", "j", 0, "run this `NUMBER` of compilers at once (default: one for each CPU)")
	f.StringVar(&o.Cache, "cache", "", "keep kernels in this `DIR`")
	f.BoolVar(&o.json, "json", false, "print the manifest")
	return c
}

func (o *buildOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	var err error
	switch {
	case o.Source == "":
		return cli.Usagef("build needs --source: a tar archive of Linux, or its directory")
	case o.UpdateLock && o.Lock == "":
		return cli.Usagef("--update-lock needs --lock")
	}
	if o.Options.Fragment, err = o.get(); err != nil {
		return err
	}
	o.Options.Arch = fragment.Arch(o.arch)
	if o.Set, err = parseSet(o.set); err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	p := newProgress(stderr)
	defer p.end()
	o.Step, o.Line = p.step, p.line
	r, err := kbuild.Build(ctx, o.Options)
	p.end()
	if err != nil {
		return err
	}
	dir := r.Dir
	if o.output != "" {
		if err := copyKernel(r, o.output); err != nil {
			return fmt.Errorf("build: %w", err)
		}
		dir = o.output
	}
	if o.json {
		return printJSON(stdout, r.Manifest)
	}
	_, err = fmt.Fprintln(stdout, dir)
	return err
}

func parseSet(list []string) (map[string]kconfig.Value, error) {
	set := map[string]kconfig.Value{}
	for _, s := range list {
		name, value, ok := strings.Cut(s, "=")
		name = strings.TrimPrefix(name, "CONFIG_")
		if !ok || name == "" || value == "" {
			return nil, cli.Usagef("--set %q: not of the form NAME=VALUE", s)
		}
		if _, err := kconfig.Parse(strings.NewReader(kconfig.Line(name, kconfig.Value(value)) + "\n")); err != nil {
			return nil, cli.Usagef("--set %q: %v", s, err)
		}
		set[name] = kconfig.Value(value)
	}
	return set, nil
}

// copyKernel copies the files of a kernel to dir, each whole or not at all.
func copyKernel(r *kbuild.Result, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	names := []string{"manifest.json"}
	for name := range r.Manifest.Files {
		names = append(names, name)
	}
	for _, name := range names {
		data, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil {
			return err
		}
		tmp := filepath.Join(dir, "."+name+".new")
		if err := os.WriteFile(tmp, data, 0o644); err != nil {
			return err
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}
