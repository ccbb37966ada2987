package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/templates"
)

type initTemplateOptions struct {
	extends string
	force   bool
}

func newInitTemplateCommand() *cobra.Command {
	var o initTemplateOptions
	c := &cobra.Command{
		Use:   "init-template FILE.yaml",
		Short: "Write a commented template to begin with",
		Long: `init-template writes a template that adds to a built-in one, with a comment and an
example for every key. It builds as it is. "-" is standard output; a file that is
there already is kept, unless --force is given.`,
		Example: `  mkinitrd init-template mine.yaml
  mkinitrd build --template ./mine.yaml -o initrd`,
		Args: cli.ExactArgs("FILE.yaml"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0]) },
	}
	c.Flags().StringVar(&o.extends, "extends", "store", "built-in template to add to")
	c.Flags().BoolVar(&o.force, "force", false, "replace a file that is there")
	return c
}

func (o initTemplateOptions) run(w io.Writer, file string) error {
	text, err := templates.Start(o.extends)
	if err != nil {
		return fmt.Errorf("init-template: %w", err)
	}
	if file == "-" {
		_, err := w.Write(text)
		return err
	}
	if exists(file) && !o.force {
		return fmt.Errorf("init-template: %s is there already: give --force to replace it", file)
	}
	if err := writeWhole(file, text); err != nil {
		return fmt.Errorf("init-template: %w", err)
	}
	return nil
}

func exists(file string) bool {
	_, err := os.Lstat(file)
	return err == nil
}
