package main

import (
	"github.com/spf13/cobra"

	"storeboot/internal/cli"
)

func newBootCommand() *cobra.Command {
	var o machineOptions
	c := &cobra.Command{
		Use:   "boot [flags] STOREPATH/init [-- ARGUMENTS...]",
		Short: "Boot a system whose init is in the store",
		Long: `boot boots a VM and makes the program its init, process 1, on a root file system
in memory with the store at /nix/store.

The standard output and input are the kernel's console; --verbose or
--console-log let the kernel say on it what it does, not only errors. The VM
ends when the system powers off or restarts, with exit status 0; a kernel panic
gives 1.`,
		Example: `  launcher boot /nix/store/HASH-nixos-system/init
  launcher boot /nix/store/HASH-system/init -- --log-level=debug`,
		RunE: func(c *cobra.Command, args []string) error {
			paths := args
			var initArgs []string
			if n := c.ArgsLenAtDash(); n >= 0 {
				paths, initArgs = args[:n], args[n:]
			}
			if err := setUsage(cli.ExactArgs("STOREPATH/init")(c, paths)); err != nil {
				return err
			}
			prog, store, err := programPath(paths[0])
			if err != nil {
				return err
			}
			j := newJob(&o, c)
			j.template = "store"
			j.parameters = []parameter{{"init", prog}}
			j.initArgs = initArgs
			j.require = []string{store}
			j.useTerminal()
			return j.run(c.Context())
		},
	}
	o.addFlags(c.Flags())
	return c
}
