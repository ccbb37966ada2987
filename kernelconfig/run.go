package main

import "github.com/spf13/cobra"

// newCommand is the command line of kernelconfig; each subcommand is in a file
// of its own.
func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kernelconfig",
		Short: "Check and build kernels for storeboot's guests",
		Long: `kernelconfig knows which options a Linux kernel needs to boot as a guest of
storeboot, and why: the initrd, the store over virtio-fs, consoles, power-off; and
beyond that what a VMM, systemd, NixOS or containers ask for.`,
	}
	c.AddCommand(newCheckCommand(), newFragmentCommand(), newDiffCommand(), newExplainCommand(), newBuildCommand())
	return c
}
