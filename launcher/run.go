package main

import (
	"os"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/launcher/share"
)

// newCommand is the command line of launcher; each subcommand is in a file of
// its own.
func newCommand() *cobra.Command {
	var o originalOptions
	c := &cobra.Command{
		Use:   "launcher",
		Short: "Run programs and systems of a content-addressed store in virtual machines",
		Long: `launcher boots a virtual machine whose /nix/store is the local store (virtiofsd
import, virtiofsd copy), served over virtio-fs: no disk image, no copying.

It takes the newest kernel in /boot, has mkinitrd build an initrd for it, and
runs cloud-hypervisor or QEMU, with KVM where that works. When the guest has
done its work everything is gone again: processes, sockets, files.

Without a subcommand it does what the environment says:
  CH_CMDLINE    kernel parameters, such as tvix.find or init=/nix/store/...;
                all of the kernel's console goes to the standard output
  CH_NUM_CPUS   processors of the guest (default 1)
  CH_MEM_SIZE   memory of the guest (default 512M)
The last two are the defaults of --cpus and --memory in every subcommand.

Exit status: that of the program in the guest, 128 plus the number of the signal
that ended it, 124 after --timeout, 127 or 126 if there is no such program or it
is none, 1 for every other failure, 2 for wrong usage.`,
		Example: `  launcher run /nix/store/HASH-hello-2.12/bin/hello
  launcher shell
  CH_CMDLINE=tvix.find launcher`,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c) },
	}
	o.machine.addFlags(c.Flags())
	c.AddCommand(newRunCommand(), newShellCommand(), newFindCommand(), newBootCommand())
	c.AddCommand(newPsCommand(), newLogsCommand(), newAttachCommand(), newExecCommand(), newStopCommand(),
		newWaitCommand(), newRmCommand(), newResizeCommand())
	c.AddCommand(newReportCommand(), newConfigCommand(), newManCommand(), newReadOnlyCommand())
	c.PersistentPreRunE = func(c *cobra.Command, _ []string) error { return readConfig(c) }
	return c
}

// newReadOnlyCommand is how the launcher confines a daemon (see share).
func newReadOnlyCommand() *cobra.Command {
	return &cobra.Command{
		Use: share.ReadOnlyCommand + " DIR PROGRAM [ARGUMENTS...]", Hidden: true, DisableFlagParsing: true,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error { return share.ExecReadOnly(args[0], args[1:]) },
	}
}

// setUsage makes an error one of wrong usage.
func setUsage(err error) error {
	if err == nil {
		return nil
	}
	return &cli.UsageError{Err: err}
}

// environ is the value of an environment variable, or def if it is unset or
// empty.
func environ(name, def string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return def
}
