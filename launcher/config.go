package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"storeboot/internal/cli"
)

// maxConfig bounds a configuration file, in bytes.
const maxConfig = 1 << 20

// readConfig sets the flags of c from the configuration file, but for those that
// the command line has. A command that runs no VM has no --config.
func readConfig(c *cobra.Command) error {
	flag := c.Flags().Lookup("config")
	if flag == nil {
		return nil
	}
	path := flag.Value.String()
	if path == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil // without a home there is none
		}
		path = filepath.Join(dir, "storeboot", "launcher.yaml")
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
	}
	data, err := readLimited(path)
	if err != nil {
		return fmt.Errorf("--config: %w", err)
	}
	if err := applyConfig(data, c.Flags()); err != nil {
		return setUsage(fmt.Errorf("%s: %w", path, err))
	}
	return nil
}

func readLimited(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err == nil && len(data) > maxConfig {
		err = fmt.Errorf("%s has more than %d bytes", path, maxConfig)
	}
	return data, err
}

// applyConfig sets flags from YAML: a mapping of their names. A list is for a
// flag that may be repeated. What the command line has set stays.
func applyConfig(data []byte, flags *pflag.FlagSet) error {
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return errors.New(yaml.FormatError(err, false, false))
	}
	for _, d := range file.Docs {
		if d.Body == nil {
			continue
		}
		m, ok := d.Body.(*ast.MappingNode)
		if !ok {
			return fmt.Errorf("line %d: want a mapping of flags: cpus: 2", d.Body.GetToken().Position.Line)
		}
		for _, v := range m.Values {
			if err := applyValue(v, flags); err != nil {
				return fmt.Errorf("line %d: %w", v.Key.GetToken().Position.Line, err)
			}
		}
	}
	return nil
}

func applyValue(v *ast.MappingValueNode, flags *pflag.FlagSet) error {
	name := v.Key.GetToken().Value
	f := flags.Lookup(name)
	if f == nil || name == "config" || name == "help" {
		return fmt.Errorf("%s: there is no such flag of this command (see: launcher config)", name)
	}
	if f.Changed {
		return nil
	}
	var values []string
	switch node := v.Value.(type) {
	case *ast.SequenceNode:
		if _, ok := f.Value.(pflag.SliceValue); !ok {
			return fmt.Errorf("%s: want one value, not a list", name)
		}
		for _, x := range node.Values {
			values = append(values, x.GetToken().Value)
		}
	case *ast.MappingNode, *ast.MappingValueNode, *ast.NullNode:
		return fmt.Errorf("%s: want a value", name)
	default:
		values = []string{node.GetToken().Value}
	}
	for _, x := range values {
		if err := flags.Set(name, x); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	f.Changed = false // by the command line
	return nil
}

func newConfigCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print a commented configuration file to begin with",
		Long: `config prints a configuration file with every flag of launcher run, its default
and what it does, all commented out. Commands read launcher.yaml in
$XDG_CONFIG_HOME/storeboot, or the file of --config; flags have the last word. A
key that is no flag of the command is an error.`,
		Example: `  launcher config >~/.config/storeboot/launcher.yaml`,
		Args:    cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			var o machineOptions
			flags := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.addFlags(flags)
			var b strings.Builder
			b.WriteString("# launcher.yaml: flags of launcher run, shell, find and boot.\n")
			flags.VisitAll(func(f *pflag.Flag) {
				if f.Name == "config" {
					return
				}
				value, usage := pflag.UnquoteUsage(f)
				fmt.Fprintf(&b, "\n# %s\n", usage)
				switch _, list := f.Value.(pflag.SliceValue); {
				case list:
					fmt.Fprintf(&b, "#%s: [%s]\n", f.Name, strings.Trim(value, "[]"))
				case f.DefValue == "":
					fmt.Fprintf(&b, "#%s: %s\n", f.Name, value)
				default:
					fmt.Fprintf(&b, "#%s: %s\n", f.Name, f.DefValue)
				}
			})
			_, err := io.WriteString(c.OutOrStdout(), b.String())
			return err
		},
	}
}

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man DIR",
		Short:   "Write a manual page for each command into a directory",
		Example: `  launcher man /usr/local/share/man/man1`,
		Args:    cli.ExactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return err
			}
			root := c.Root()
			root.DisableAutoGenTag = true // the same flags give the same pages
			return doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "storeboot " + cli.Version(), Manual: "storeboot"}, args[0])
		},
	}
}
