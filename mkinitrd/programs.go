package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"storeboot/mkinitrd/gobuild"
	"storeboot/mkinitrd/image"
)

// programOptions say where an image's programs come from.
type programOptions struct {
	init   string
	source string
}

// ownCommands are the commands of images that are programs of this module, by
// the directory of their source; all others are u-root's.
var ownCommands = map[string]string{"sh": "mkinitrd/shell"}

// find builds, or finds, all programs that b's template needs.
func (o programOptions) find(ctx context.Context, b *image.Builder, log *slog.Logger) error {
	b.Programs = map[string]string{}
	source, sourceErr := gobuild.FindSource(o.source)
	if sourceErr != nil && !errors.Is(sourceErr, gobuild.ErrNoSource) {
		return sourceErr
	}
	if b.Init = o.init; b.Init != "" && len(b.Template.Commands) == 0 {
		return nil // nothing to build
	}
	cache, err := gobuild.NewCache("")
	if err != nil {
		return err
	}
	g := &gobuild.Builder{Source: source, Cache: cache, Arch: b.Arch, Log: log}
	if b.Init, err = o.findInit(ctx, g, sourceErr); err != nil {
		return err
	}
	var others []string
	for _, name := range b.Template.Commands {
		if sourceErr != nil {
			return fmt.Errorf("build command %s: %w", name, sourceErr)
		}
		dir, own := ownCommands[name]
		if !own {
			others = append(others, name)
			continue
		}
		if b.Programs[name], err = g.Program(ctx, dir); err != nil {
			return err
		}
	}
	if len(others) > 0 {
		b.Busybox, err = g.Commands(ctx, others)
	}
	return err
}

// findInit is the init that was given, or one built from source, or, where that
// cannot be, the one that is installed beside this program.
func (o programOptions) findInit(ctx context.Context, g *gobuild.Builder, sourceErr error) (string, error) {
	if o.init != "" {
		return o.init, nil
	}
	err := sourceErr
	if err == nil {
		var file string
		if file, err = g.Program(ctx, "init"); !errors.Is(err, gobuild.ErrNoGo) {
			return file, err
		}
	}
	if exe, exeErr := os.Executable(); exeErr == nil {
		beside := filepath.Join(filepath.Dir(exe), "init")
		if st, statErr := os.Stat(beside); statErr == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	return "", fmt.Errorf("find init: none is beside mkinitrd, and %w; or give --init FILE", err)
}
