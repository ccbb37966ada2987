package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/templates"
)

type templatesOptions struct{ json bool }

func newTemplatesCommand() *cobra.Command {
	var o templatesOptions
	c := &cobra.Command{
		Use:   "templates [NAME]",
		Short: "List the built-in templates, or print one",
		Long: `templates lists the built-in templates; with NAME it prints that one as YAML, to
begin one of your own with. --json prints templates with all that they extend.

The keys of a template, all of which may be left out (mkinitrd init-template
writes one with an example for each):
  description  what the image is for
  extends      a built-in template that this one adds to
  include      list of more of them, in files too
  parameters   list of: name, description, default; ${NAME} in any text
  modules      kernel modules: NAME, alias, "NAME?" (where the kernel has it),
               "NAME PARAMETER=VALUE..."; DIRECTORY/ (in the image, not loaded)
  firmware     files below /lib/firmware, beside those that the modules name
  microcode    intel, amd, or with "?": of the processor, as the first segment
  commands     commands in /bin: sh, those of u-root, Go commands by import path
  programs     Go commands that are programs of their own: import, path
  binaries     programs of this machine with their libraries: NAME, PATH, or
               source, path, optional, dlopen
  nss          services of nsswitch.conf whose libraries the binaries need
  shell        argv of the interactive shell, [/bin/sh]
  mode         find, shell or run: where the kernel command line names none
  run          the program of mode run: argv, env, dir
  directories  list of: path, mode, owner
  files        list of: source (relative to the template) or text, path, mode, owner
  trees        list of: source, path, owner, modes; all below a directory
  symlinks     list of: path, target, owner
  devices      list of: path, type (char, block, fifo), major, minor, mode, owner
  archives     initramfs files that become segments: source, early
  mounts       list of: source, target, type, options; made before the store
  hooks        before_store, after_store: lists of commands that init runs
  max_size     a larger image is not built: 8M`,
		Example: `  mkinitrd templates shell > mine.yaml
  mkinitrd build --template ./mine.yaml -o initrd`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return cli.ExactArgs("NAME")(c, args)
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args) },
	}
	c.Flags().BoolVar(&o.json, "json", false, "print as JSON")
	return c
}

func (o templatesOptions) run(w io.Writer, names []string) error {
	if len(names) == 1 && !o.json {
		data, err := templates.BuiltinSource(names[0])
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	if len(names) == 0 {
		names = templates.Builtins()
	}
	var list []*templates.Template
	for _, name := range names {
		t, err := templates.Builtin(name)
		if err != nil {
			return err
		}
		list = append(list, t)
	}
	if o.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, x := range list {
		fmt.Fprintf(t, "%s\t%s\n", x.Name, x.Description)
	}
	return t.Flush()
}
