package gobuild

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// flags leave nothing in a program that its sources do not determine.
var flags = []string{"-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid="}

// Builder builds programs for linux on one architecture. It may be used
// concurrently, also by several processes.
type Builder struct {
	Source string // the directory of this module, see [FindSource]
	Cache  *Cache
	Arch   string // as GOARCH
	Log    *slog.Logger
}

// Program builds the command of this module in the directory dir, such as
// "init", and returns the file. Its sources are dir and internal; what lies in
// other directories must not be part of it, as it would not be in the key.
func (b *Builder) Program(ctx context.Context, dir string) (string, error) {
	key, err := b.key(ctx, "program", dir)
	if err == nil {
		err = key.addSources(b.Source, dir, "internal")
	}
	if err != nil {
		return "", fmt.Errorf("build %s: %w", dir, err)
	}
	file, err := b.Cache.file(ctx, key.sum(), filepath.Base(dir), func(out string) error {
		b.Log.Info("building", "program", dir, "arch", b.Arch)
		args := append([]string{"build", "-mod=readonly", "-o", out}, flags...)
		cmd := exec.CommandContext(ctx, key.tools.path, append(args, "./"+dir)...)
		cmd.Dir = b.Source
		cmd.Env = environment(b.Arch)
		_, err := run(cmd)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", dir, err)
	}
	return file, nil
}

// key begins the key of a program.
func (b *Builder) key(ctx context.Context, what ...string) (*key, error) {
	tools, err := findToolchain(ctx)
	if err != nil {
		return nil, err
	}
	k := newKey(tools)
	k.add(what...)
	k.add(b.Arch, strings.Join(flags, " "), tools.version)
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.Source, name))
		if err != nil {
			return nil, err
		}
		k.add(name, string(data))
	}
	return k, nil
}
