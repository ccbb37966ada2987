package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
)

type diffOptions struct {
	fragmentOptions
	json bool
}

func newDiffCommand() *cobra.Command {
	var o diffOptions
	c := &cobra.Command{
		Use:   "diff FILE FILE",
		Short: "Say in which options two kernel configurations differ",
		Long: `diff compares two configurations, each in any form that check takes, and prints
the options that differ: + only in the second, - only in the first, else both
values. Where the option matters to our guests, the reason follows.

With --fragment only the options of these fragments are compared. The exit
status is 1 if there is a difference.`,
		Example: `  kernelconfig diff /boot/config-6.1.0-56-cloud-amd64 .config
  kernelconfig diff --fragment nixos /proc/config.gz linux-image-6.12.deb
  kernelconfig diff --json a.config b.config | jq -r '.[].name'`,
		Args: cli.ExactArgs("FILE", "FILE"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0], args[1]) },
	}
	o.addFlags(c)
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

// difference is the JSON form of one.
type difference struct {
	Name   string        `json:"name"`
	First  kconfig.Value `json:"first"`
	Second kconfig.Value `json:"second"`
	Why    string        `json:"why,omitempty"`
}

func (o diffOptions) run(w io.Writer, first, second string) error {
	a, _, err := kconfig.ReadFile(first)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	b, _, err := kconfig.ReadFile(second)
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	o.follow(b)
	only := len(o.names) > 0
	if !only {
		o.names = fragment.Names()
	}
	f, err := o.get()
	if err != nil {
		return err
	}
	why := map[string]string{}
	for _, x := range f.Options {
		why[x.Name] = x.Why
	}
	differences := []difference{}
	for _, name := range kconfig.Diff(a, b) {
		reason, known := why[name]
		if known || !only {
			differences = append(differences, difference{"CONFIG_" + name, a.Get(name), b.Get(name), reason})
		}
	}
	if err := o.print(w, differences); err != nil {
		return err
	}
	if len(differences) > 0 {
		return &cli.StatusError{Status: cli.ExitFailure}
	}
	return nil
}

func (o diffOptions) print(w io.Writer, differences []difference) error {
	if o.json {
		return printJSON(w, differences)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, d := range differences {
		change := fmt.Sprintf("  %s\t%s -> %s", d.Name, d.First, d.Second)
		switch kconfig.No {
		case d.First:
			change = fmt.Sprintf("+ %s\t%s", d.Name, d.Second)
		case d.Second:
			change = fmt.Sprintf("- %s\t%s", d.Name, d.First)
		}
		fmt.Fprintf(t, "%s\t%s\n", change, d.Why)
	}
	return t.Flush()
}
