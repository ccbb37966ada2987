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

type checkOptions struct {
	fragmentOptions
	all  bool
	json bool
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Say what a kernel configuration lacks for our guests",
		Long: `check reads a kernel configuration and says which options it lacks.

FILE is a .config, the same compressed with gzip (/proc/config.gz), a kernel image
(bzImage, vmlinux) that carries its configuration or has config-RELEASE beside it,
as in /boot, or the Debian package of a kernel. Its architecture is found in it.
What it is for is said with --fragment; kernelconfig fragment lists the purposes.

An option that is a module is fine where mkinitrd can put the module into the
initrd, and is listed as such; some options have to be built in. The exit status
is 1 if a required option is missing.`,
		Example: `  kernelconfig check /boot/config-$(uname -r)
  kernelconfig check /proc/config.gz --all
  kernelconfig check --fragment nixos,cloud-hypervisor linux-image-6.12.deb
  kernelconfig check .config --json | jq '.options[] | select(.status == "missing")'`,
		Args: cli.ExactArgs("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	o.addFlags(c, "virtiofs")
	c.Flags().BoolVarP(&o.all, "all", "a", false, "list built-in options too")
	c.Flags().BoolVar(&o.json, "json", false, "print every option as JSON")
	return c
}

// checkResult is the JSON form of a check.
type checkResult struct {
	File     string        `json:"file"`
	Fragment string        `json:"fragment"`
	OK       bool          `json:"ok"`
	Missing  int           `json:"required_missing"`
	Modules  int           `json:"modules"`
	Options  []checkOption `json:"options"`
}

type checkOption struct {
	Name   string          `json:"name"`
	Value  kconfig.Value   `json:"value"`
	Status fragment.Status `json:"status"`
	Need   fragment.Need   `json:"need"`
	Why    string          `json:"why"`
}

func (o checkOptions) run(w io.Writer, path string) error {
	if _, err := o.get(); err != nil {
		return err // before a file is read
	}
	config, from, err := kconfig.ReadFile(path)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	o.follow(config)
	f, err := o.get()
	if err != nil {
		return err
	}
	r := checkResult{File: from, Fragment: f.Name}
	for _, x := range f.Check(config) {
		if x.Bad() {
			r.Missing++
		}
		if x.Status == fragment.AsModule {
			r.Modules++
		}
		r.Options = append(r.Options, checkOption{"CONFIG_" + x.Option.Name, x.Value, x.Status, x.Option.Need, x.Option.Why})
	}
	r.OK = r.Missing == 0
	if o.json {
		if err := printJSON(w, r); err != nil {
			return err
		}
	} else if err := r.print(w, o.all); err != nil {
		return err
	}
	if !r.OK {
		return &cli.StatusError{Status: cli.ExitFailure, Err: fmt.Errorf("check %s: %d required options are missing", r.File, r.Missing)}
	}
	return nil
}

func (r checkResult) print(w io.Writer, all bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, x := range r.Options {
		if x.Status != fragment.BuiltIn || all {
			fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.Status, x.Need, x.Name, x.Why)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "has all that our guests require"
	if !r.OK {
		verdict = fmt.Sprintf("lacks %d required options", r.Missing)
	}
	_, err := fmt.Fprintf(w, "%s: %s; %d of %d options are modules, which mkinitrd puts into the initrd\n", r.File, verdict, r.Modules, len(r.Options))
	return err
}
