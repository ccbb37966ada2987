package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/mkinitrd/gobuild"
	"storeboot/mkinitrd/prebuilt"
	"storeboot/templates"
)

type embedOptions struct {
	source string
	arch   string
}

func newEmbedCommand() *cobra.Command {
	var o embedOptions
	c := &cobra.Command{
		Use:   "embed",
		Short: "Build the programs that a released mkinitrd carries",
		Long: `embed builds init, the shell and the commands of all built-in templates, and
writes them into the source, mkinitrd/prebuilt/programs/ARCH. A mkinitrd that is
built after that carries them, and needs neither Go nor source to build images
from the built-in templates. It is a step of making a release; for daily work it
only makes mkinitrd larger.`,
		Example: `  go run ./mkinitrd embed
  CGO_ENABLED=0 go build -o bin/ ./mkinitrd`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr()) },
	}
	c.Flags().StringVar(&o.source, "source", "", "`directory` of storeboot's source")
	c.Flags().StringVar(&o.arch, "arch", runtime.GOARCH, "architecture, as GOARCH")
	return c
}

func (o embedOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	source, err := gobuild.FindSource(o.source)
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	cache, err := gobuild.NewCache("")
	if err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	g := &gobuild.Builder{Source: source, Cache: cache, Arch: o.arch, Log: slog.New(slog.NewTextHandler(stderr, nil))}
	files := map[string]string{}
	if files[prebuilt.Init], err = g.Program(ctx, "init"); err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	var names []string
	for _, t := range templates.Builtins() {
		tmpl, err := templates.Builtin(t)
		if err != nil {
			return fmt.Errorf("embed: %w", err)
		}
		for _, c := range tmpl.Commands {
			if dir, own := ownCommands[c.Name]; own {
				if files[c.Name], err = g.Program(ctx, dir); err != nil {
					return fmt.Errorf("embed: %w", err)
				}
			} else if !slices.Contains(names, c.Name) {
				names = append(names, c.Name)
			}
		}
	}
	slices.Sort(names)
	if files[prebuilt.Busybox], err = g.Commands(ctx, names); err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	dir := filepath.Join(source, "mkinitrd/prebuilt/programs")
	if err := prebuilt.Pack(dir, o.arch, files, names); err != nil {
		return fmt.Errorf("embed: %w", err)
	}
	_, err = fmt.Fprintf(stdout, "%s\n", filepath.Join(dir, o.arch))
	return err
}
