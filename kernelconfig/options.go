package main

import (
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
)

// fragmentOptions are the flags that choose fragments.
type fragmentOptions struct {
	names []string
	arch  string
	// given says whether the user named the architecture.
	given func() bool
}

func (o *fragmentOptions) addFlags(c *cobra.Command, names ...string) {
	c.Flags().StringSliceVarP(&o.names, "fragment", "f", names, "the `FRAGMENTS` to take: "+strings.Join(fragment.Names(), ", "))
	o.addArch(c)
}

func (o *fragmentOptions) addArch(c *cobra.Command) {
	c.Flags().StringVar(&o.arch, "arch", runtime.GOARCH, "`ARCH`itecture of the guest: amd64 or arm64")
	o.given = func() bool { return c.Flags().Changed("arch") }
}

// follow takes the architecture from a configuration, unless the user named one.
func (o *fragmentOptions) follow(c *kconfig.Config) {
	switch {
	case o.given():
	case c.Get("ARM64") == kconfig.Yes:
		o.arch = string(fragment.ARM64)
	case c.Get("X86_64") == kconfig.Yes:
		o.arch = string(fragment.AMD64)
	}
}

// get joins the fragments.
func (o *fragmentOptions) get() (fragment.Fragment, error) {
	f, err := fragment.Get(fragment.Arch(o.arch), o.names...)
	if err != nil {
		return f, cli.Usagef("%v", err)
	}
	return f, nil
}
