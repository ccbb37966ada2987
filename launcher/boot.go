package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
)

type bootOptions struct {
	machine        machineOptions
	kernelParams   bool
	specialisation string
	writable       string
}

func newBootCommand() *cobra.Command {
	var o bootOptions
	c := &cobra.Command{
		Use:   "boot [flags] STOREPATH[/init] [-- ARGUMENTS...]",
		Short: "Boot a system of the store",
		Long: `boot boots a VM and makes the program its init, process 1, on a root file system
in memory with the store at /nix/store. Other places for the root file system
are said as the kernel has them: --cmdline root=LABEL=system.

A NixOS system, of any of its three kinds, is activated first and then started
as its own stage 1 would. For any other program, it is executed as it is.

The standard output and input are the kernel's console; --verbose or
--console-log let the kernel say on it what it does, not only errors. The VM
ends when the system powers off or restarts, with exit status 0; a kernel panic
gives 1.`,
		Example: `  launcher boot /nix/store/HASH-nixos-system
  launcher boot --kernel-params --specialisation debug /nix/store/HASH-nixos-system
  launcher boot /nix/store/HASH-system/init -- --log-level=debug`,
		RunE: func(c *cobra.Command, args []string) error {
			paths := args
			var initArgs []string
			if n := c.ArgsLenAtDash(); n >= 0 {
				paths, initArgs = args[:n], args[n:]
			}
			if err := setUsage(cli.ExactArgs("STOREPATH[/init]")(c, paths)); err != nil {
				return err
			}
			return o.run(c, paths[0], initArgs)
		},
	}
	c.Flags().BoolVar(&o.kernelParams, "kernel-params", false, "take the kernel parameters of the NixOS system (its file kernel-params)")
	c.Flags().StringVar(&o.specialisation, "specialisation", "", "boot the `NAME`d specialisation of the NixOS system")
	c.Flags().StringVar(&o.writable, "writable-store", "", "let the guest change its store: changes go to `tmpfs`, or to a disk named as in root=")
	c.Flags().Lookup("writable-store").NoOptDefVal = "tmpfs"
	o.machine.addFlags(c.Flags())
	return c
}

func (o *bootOptions) run(c *cobra.Command, arg string, initArgs []string) error {
	prog, store, err := programPath(arg)
	if err != nil {
		return err
	}
	j := newJob(&o.machine, c)
	j.template = "nixos"
	if o.specialisation != "" || o.kernelParams {
		top := strings.TrimSuffix(prog, "/init")
		if o.specialisation != "" {
			if o.specialisation == "." || o.specialisation == ".." || strings.Contains(o.specialisation, "/") {
				return cli.Usagef("--specialisation %q: want a name", o.specialisation)
			}
			top = path.Join(top, "specialisation", o.specialisation)
		}
		prog = path.Join(top, "init")
		if o.kernelParams {
			if j.closureParams, err = o.readKernelParams(c.Context(), top); err != nil {
				return err
			}
		}
	}
	j.parameters = []parameter{{"init", prog}}
	if o.writable != "" {
		j.parameters = append(j.parameters, parameter{"storeboot.store.overlay", o.writable})
	}
	j.initArgs = initArgs
	j.require = []string{store}
	j.useTerminal()
	return j.run(c.Context())
}

// maxKernelParams bounds what is read: x86 kernels take 2 KiB.
const maxKernelParams = 64 << 10

// readKernelParams has virtiofsd read the system's own kernel parameters out of
// the store.
func (o *bootOptions) readKernelParams(ctx context.Context, top string) (string, error) {
	daemon, err := findProgram("virtiofsd", o.machine.virtiofsd)
	if err != nil {
		return "", err
	}
	file := path.Join(top, "kernel-params")
	cmd := exec.CommandContext(ctx, daemon, append([]string{"cat"}, append(o.machine.daemonArgs(), file)...)...)
	text, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && len(exit.Stderr) > 0:
		return "", fmt.Errorf("--kernel-params: %s", strings.TrimPrefix(strings.TrimSpace(string(exit.Stderr)), "virtiofsd: "))
	case err != nil:
		return "", fmt.Errorf("--kernel-params: read %s: %w", file, err)
	case len(text) > maxKernelParams:
		return "", fmt.Errorf("--kernel-params: %s has %d bytes, at most %d are possible", file, len(text), maxKernelParams)
	}
	line := strings.TrimSpace(string(text))
	if strings.ContainsFunc(line, unicode.IsControl) {
		return "", fmt.Errorf("--kernel-params: %s is not one line", file)
	}
	return line, nil
}
