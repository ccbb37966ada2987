package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
)

func newExplainCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "explain OPTION...",
		Short: "Say why our guests want a kernel option",
		Long: `explain says of each option, with CONFIG_ before its name or without, which
fragments ask for it, how urgently, and why.`,
		Example: `  kernelconfig explain VIRTIO_FS
  kernelconfig explain CONFIG_SECCOMP CONFIG_PVH`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error { return explain(c.OutOrStdout(), args, asJSON) },
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// reason is one fragment's reason for an option.
type reason struct {
	Fragment string `json:"fragment"`
	optionInfo
}

func explain(w io.Writer, names []string, asJSON bool) error {
	var reasons []reason
	for _, name := range names {
		short := strings.TrimPrefix(strings.ToUpper(name), "CONFIG_")
		found := false
		for _, f := range fragment.All() {
			for _, x := range describe(f).Options {
				if x.Name == "CONFIG_"+short {
					reasons, found = append(reasons, reason{f.Name, x}), true
				}
			}
		}
		if !found {
			return cli.Usagef("no fragment asks for CONFIG_%s (kernelconfig fragment NAME prints what one asks for)", short)
		}
	}
	if asJSON {
		return printJSON(w, reasons)
	}
	for _, r := range reasons {
		form := "built in"
		switch {
		case r.Value != kconfig.Yes:
			form = "as " + string(r.Value)
		case r.ModuleOK:
			form = "built in or as a module"
		}
		on := ""
		if r.Arch != "" {
			on = ", on " + string(r.Arch)
		}
		if _, err := fmt.Fprintf(w, "%s: %s for %s, %s%s: %s\n", r.Name, r.Need, r.Fragment, form, on, r.Why); err != nil {
			return err
		}
	}
	return nil
}
