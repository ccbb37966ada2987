package main

import (
	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
)

func newShellCommand() *cobra.Command {
	var o machineOptions
	c := &cobra.Command{
		Use:   "shell",
		Short: "An interactive shell in a VM with the store",
		Long: `shell boots a VM with a shell and the usual tools, and the store at /nix/store.

All keys go to the guest; "exit" ends the VM, and so does Ctrl-] pressed three
times within a second.`,
		Example: `  launcher shell
  launcher shell --memory 2G --kernel ./vmlinuz`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j := newJob(&o, c)
			j.template = "shell"
			j.parameters = []parameter{{"storeboot.shell", ""}}
			j.program, j.lineMode = true, true
			// The image says which shell; the specification carries the rest.
			j.spec = &bootproto.RunSpec{Version: bootproto.SpecVersion, Argv: []string{"/bin/sh"}}
			j.useTerminal()
			return j.run(c.Context())
		},
	}
	o.addFlags(c.Flags())
	return c
}
