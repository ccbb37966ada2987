package main

import "github.com/spf13/cobra"

// newCommand is the command line of mkinitrd; each subcommand is in a file of
// its own.
func newCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "mkinitrd",
		Short: "Build and inspect initrds for storeboot's guests",
		Long: `mkinitrd builds the initial file system (initramfs) of a guest from a template:
storeboot's init, the kernel modules that mount the store, and if the template
says so a shell and tools. The same input gives the same bytes.

Programs are built from source with the go command the first time, and kept; a
build after that takes milliseconds.`,
		Example: `  mkinitrd build --template store --kernel /boot/vmlinuz-$(uname -r) -o initrd
  mkinitrd ls initrd
  mkinitrd cat initrd /etc/storeboot/boot.json
  mkinitrd templates shell > mine.yaml`,
	}
	c.AddCommand(newBuildCommand(), newListCommand(), newCatCommand(),
		newExtractCommand(), newDiffCommand(), newSizeCommand(), newCheckCommand(), newTemplatesCommand(), newInitTemplateCommand(), newWhyCommand(), newEmbedCommand())
	return c
}
