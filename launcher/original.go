package main

import (
	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
)

// originalOptions are those of the command without a subcommand, which is
// driven by the environment.
type originalOptions struct {
	machine machineOptions
}

func (o *originalOptions) run(c *cobra.Command) error {
	line := environ(cmdlineVariable, "")
	if line == "" {
		if err := c.Help(); err != nil {
			return err
		}
		return cli.Usagef("a subcommand is needed, or %s", cmdlineVariable)
	}
	p, err := bootproto.ParseCommandLine(line)
	if err != nil {
		return cli.Usagef("%s: %w", cmdlineVariable, err)
	}
	j := newJob(&o.machine, c)
	j.template = "store"
	if p.Mode == bootproto.ModeShell {
		j.template = "shell"
		j.lineMode = true
	}
	j.commandLine = line
	j.useTerminal()
	return j.run(c.Context())
}
