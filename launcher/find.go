package main

import (
	"github.com/spf13/cobra"

	"storeboot/internal/cli"
)

func newFindCommand() *cobra.Command {
	var o machineOptions
	c := &cobra.Command{
		Use:     "find",
		Short:   "List every path of the store, as a guest sees it",
		Example: `  launcher find | wc -l`,
		Args:    cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			j := newJob(&o, c)
			j.template = "store"
			j.parameters = []parameter{{"storeboot.find", ""}}
			j.program = true
			return j.run(c.Context())
		},
	}
	o.addFlags(c.Flags())
	return c
}
