package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"storeboot/mkinitrd/gobuild"
	"storeboot/mkinitrd/image"
	"storeboot/mkinitrd/prebuilt"
)

// programOptions say where an image's programs come from.
type programOptions struct {
	init   string
	source string
}

// ownCommands are the commands of images that are programs of this module, by
// the directory of their source; all others are u-root's.
var ownCommands = map[string]string{"sh": "mkinitrd/shell"}

// find builds, or finds, all programs that b's template needs. With source and
// Go they are built; without, they are those that this mkinitrd carries, or an
// init that is installed beside it.
func (o programOptions) find(ctx context.Context, b *image.Builder, cache *gobuild.Cache, log *slog.Logger) error {
	b.Programs = map[string]string{}
	source, sourceErr := gobuild.FindSource(o.source)
	if sourceErr != nil && !errors.Is(sourceErr, gobuild.ErrNoSource) {
		return sourceErr
	}
	if b.Init = o.init; b.Init != "" && len(b.Template.Commands)+len(b.Template.Programs) == 0 {
		return nil // nothing to build
	}
	f := programFinder{
		builder: &gobuild.Builder{Source: source, Cache: cache, Arch: b.Arch, Log: log},
		cache:   cache, arch: b.Arch, sourceErr: sourceErr,
	}
	var err error
	if b.Init == "" {
		if b.Init, err = f.init(ctx); err != nil {
			return err
		}
	}
	var others []string
	for _, c := range b.Template.Commands {
		dir, own := ownCommands[c.Name]
		if !own || c.Import != "" {
			name := c.Name
			if c.Import != "" {
				name = c.Import
			}
			others = append(others, name)
			continue
		}
		if b.Programs[c.Name], err = f.own(ctx, c.Name, dir); err != nil {
			return c.At.Wrap(err)
		}
	}
	for _, p := range b.Template.Programs {
		if sourceErr != nil {
			return p.At.Wrap(fmt.Errorf("build program %s: %w", p.Import, sourceErr))
		}
		if b.Programs[p.Import], err = f.builder.Package(ctx, p.Import); err != nil {
			return p.At.Wrap(err)
		}
	}
	if len(others) > 0 {
		b.Busybox, err = f.busybox(ctx, others)
	}
	return err
}

// programFinder finds programs one by one.
type programFinder struct {
	builder   *gobuild.Builder
	cache     *gobuild.Cache
	arch      string
	sourceErr error // there is no source
}

// cannotBuild holds for the errors after which another program will do.
func cannotBuild(err error) bool {
	return errors.Is(err, gobuild.ErrNoSource) || errors.Is(err, gobuild.ErrNoGo)
}

// own builds a program of this module, or takes the one that is carried.
func (f *programFinder) own(ctx context.Context, name, dir string) (string, error) {
	file, err := "", f.sourceErr
	if err == nil {
		file, err = f.builder.Program(ctx, dir)
	}
	if !cannotBuild(err) {
		return file, err
	}
	carried, carriedErr := f.carried(name)
	if carriedErr != nil {
		return "", fmt.Errorf("find %s: %w, and %w", name, carriedErr, err)
	}
	return carried, nil
}

// busybox builds the commands, or takes the carried program that has them.
func (f *programFinder) busybox(ctx context.Context, names []string) (string, error) {
	file, err := "", f.sourceErr
	if err == nil {
		file, err = f.builder.Commands(ctx, names)
	}
	if !cannotBuild(err) {
		return file, err
	}
	have := prebuilt.Commands(f.arch)
	for _, n := range names {
		if !slices.Contains(have, n) {
			return "", fmt.Errorf("find command %s: not one that this mkinitrd carries, and %w", n, err)
		}
	}
	return f.carried(prebuilt.Busybox)
}

// carried unpacks a program that is part of this one, once.
func (f *programFinder) carried(name string) (string, error) {
	data, err := prebuilt.Program(f.arch, name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return f.cache.Keep(hex.EncodeToString(sum[:20]), name, func(file string) error { return prebuilt.Unpack(data, file) })
}

// init is built from source, or carried, or, where that cannot be, the one that
// is installed beside this program.
func (f *programFinder) init(ctx context.Context) (string, error) {
	file, err := f.own(ctx, prebuilt.Init, "init")
	if err == nil || !errors.Is(err, prebuilt.ErrNone) {
		return file, err
	}
	if exe, exeErr := os.Executable(); exeErr == nil {
		beside := filepath.Join(filepath.Dir(exe), "init")
		if st, statErr := os.Stat(beside); statErr == nil && st.Mode().IsRegular() {
			return beside, nil
		}
	}
	return "", fmt.Errorf("%w; none is beside mkinitrd either: give --init FILE", err)
}
