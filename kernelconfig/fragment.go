package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
)

type fragmentCommandOptions struct {
	fragmentOptions
	nix  bool
	json bool
}

func newFragmentCommand() *cobra.Command {
	var o fragmentCommandOptions
	c := &cobra.Command{
		Use:   "fragment [NAME...]",
		Short: "Print the options of a purpose, or list the purposes",
		Long: `fragment prints the options of the named fragments, and of those that they
presuppose, as a piece of a .config with the reason for each; the kernel's
scripts/kconfig/merge_config.sh takes it. Without a name it lists the fragments.

An option is set to y even where a module would do: a kernel for one purpose
needs no modules, and starts faster without.`,
		Example: `  kernelconfig fragment
  kernelconfig fragment virtiofs qemu > guest.config
  kernelconfig fragment nixos --nix           # for linuxManualConfig, structuredExtraConfig
  kernelconfig fragment virtiofs --arch arm64 --json`,
		RunE:              func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args) },
		ValidArgsFunction: cobra.FixedCompletions(fragment.Names(), cobra.ShellCompDirectiveNoFileComp),
	}
	o.addArch(c)
	c.Flags().BoolVar(&o.nix, "nix", false, "print a Nix attribute set for structuredExtraConfig")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON")
	return c
}

func (o fragmentCommandOptions) run(w io.Writer, names []string) error {
	if o.nix && o.json {
		return cli.Usagef("--nix and --json are two forms; choose one")
	}
	if len(names) == 0 {
		if o.nix {
			return cli.Usagef("--nix needs the names of fragments (kernelconfig fragment lists them)")
		}
		return o.list(w)
	}
	o.names = names
	f, err := o.get()
	switch {
	case err != nil:
		return err
	case o.json:
		return printJSON(w, describe(f))
	case o.nix:
		_, err = io.WriteString(w, nixConfig(f))
	default:
		_, err = io.WriteString(w, f.Config())
	}
	return err
}

// fragmentInfo is the JSON form of a fragment.
type fragmentInfo struct {
	Name     string       `json:"name"`
	Summary  string       `json:"summary"`
	Includes []string     `json:"includes,omitempty"`
	Options  []optionInfo `json:"options"`
}

type optionInfo struct {
	Name     string        `json:"name"`
	Value    kconfig.Value `json:"value"`
	Need     fragment.Need `json:"need"`
	ModuleOK bool          `json:"module_ok"`
	Arch     fragment.Arch `json:"arch,omitempty"`
	Why      string        `json:"why"`
}

func describe(f fragment.Fragment) fragmentInfo {
	info := fragmentInfo{Name: f.Name, Summary: f.Summary, Includes: f.Includes}
	for _, x := range f.Options {
		info.Options = append(info.Options, optionInfo{"CONFIG_" + x.Name, x.Want(), x.Need, x.ModuleOK, x.Arch, x.Why})
	}
	return info
}

func (o fragmentCommandOptions) list(w io.Writer) error {
	if o.json {
		var infos []fragmentInfo
		for _, f := range fragment.All() {
			infos = append(infos, describe(f))
		}
		return printJSON(w, infos)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range fragment.All() {
		f.Options = slices.DeleteFunc(f.Options, func(x fragment.Option) bool {
			return x.Arch != "" && x.Arch != fragment.Arch(o.arch)
		})
		fmt.Fprintf(t, "%s\t%d options\t%s\n", f.Name, len(f.Options), f.Summary)
	}
	return t.Flush()
}

// nixConfig is f as an attribute set for nixpkgs' structuredExtraConfig.
func nixConfig(f fragment.Fragment) string {
	text := "# " + f.Name + ": " + f.Summary + "\n{ lib }: with lib.kernel; {\n"
	for _, x := range f.Options {
		value := "yes"
		switch v := x.Want(); v {
		case kconfig.Yes:
		case kconfig.No:
			value = "no"
		default:
			value = fmt.Sprintf("freeform %q", v)
		}
		name := x.Name
		if name[0] >= '0' && name[0] <= '9' {
			name = `"` + name + `"`
		}
		if x.Need == fragment.Recommended {
			value = "option " + value // nixpkgs then accepts a kernel that lacks it
			if v := x.Want(); v != kconfig.Yes && v != kconfig.No {
				value = "option (" + value[len("option "):] + ")"
			}
		}
		text += fmt.Sprintf("  %s = %s; # %s\n", name, value, x.Why)
	}
	return text + "}\n"
}
