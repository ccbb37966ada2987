package main

import "github.com/spf13/cobra"

// newCommand is the command line of virtiofsd; each subcommand is in a file of
// its own.
func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "virtiofsd",
		Short: "Store closures by content and serve them to VMs over virtio-fs",
	}
	c.AddCommand(
		newImportCommand(),
		newCopyCommand(),
		newListCommand(),
		newLsCommand(),
		newCatCommand(),
		newStatCommand(),
		newExportCommand(),
		newFetchCommand(),
		newPushCommand(),
		newVerifyCommand(),
		newGCCommand(),
		newMountCommand(),
		newServeCommand(),
		newDaemonCommand(),
		newSocketCommand(),
		newNarBridgeCommand(),
	)
	return c
}
