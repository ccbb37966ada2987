package main

import "github.com/spf13/cobra"

// newCommand is the command line of kernelconfig; each subcommand is in a file
// of its own.
func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kernelconfig",
		Short: "Check kernel configurations for storeboot's guests",
		Long: `kernelconfig knows which options a Linux kernel needs to boot as a guest of
storeboot, and why: the initrd, the store over virtio-fs, consoles, power-off.`,
	}
	c.AddCommand(newCheckCommand())
	return c
}
