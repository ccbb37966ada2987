package gobuild

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"strings"
)

// Package builds a Go command, named by its import path, as a program of its
// own. It is one of this module, or of a module in its build list, whose go.sum
// says which bytes it has.
func (b *Builder) Package(ctx context.Context, importPath string) (string, error) {
	if dir, ok := strings.CutPrefix(importPath, modulePath+"/"); ok {
		return b.ownPackage(ctx, dir)
	}
	key, err := b.key(ctx, "package", importPath)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", importPath, err)
	}
	file, err := b.Cache.file(ctx, key.sum(), path.Base(importPath), func(out string) error {
		if err := b.checkCommand(ctx, key.tools, importPath); err != nil {
			return err
		}
		return b.compile(ctx, key.tools, importPath, out)
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", importPath, err)
	}
	return file, nil
}

// ownPackage builds a command of this module, which may import any of its
// packages.
func (b *Builder) ownPackage(ctx context.Context, dir string) (string, error) {
	key, err := b.key(ctx, "package", dir)
	if err == nil {
		top, _, _ := strings.Cut(dir, "/")
		err = key.addSources(b.Source, top, "internal")
	}
	if err != nil {
		return "", fmt.Errorf("build %s: %w", dir, err)
	}
	file, err := b.Cache.file(ctx, key.sum(), path.Base(dir), func(out string) error {
		return b.compile(ctx, key.tools, "./"+dir, out)
	})
	if err != nil {
		return "", fmt.Errorf("build %s: %w", dir, err)
	}
	return file, nil
}

func (b *Builder) compile(ctx context.Context, tools *toolchain, what, out string) error {
	b.Log.Info("building", "program", what, "arch", b.Arch)
	args := append([]string{"build", "-mod=readonly", "-o", out}, flags...)
	cmd := exec.CommandContext(ctx, tools.path, append(args, what)...)
	cmd.Dir = b.Source
	cmd.Env = environment(b.Arch)
	_, err := run(cmd)
	return err
}

// checkCommand says whether the import path is that of a command which the
// build list has.
func (b *Builder) checkCommand(ctx context.Context, tools *toolchain, importPath string) error {
	cmd := exec.CommandContext(ctx, tools.path, "list", "-mod=readonly", "-e", "-f", "{{.Name}} {{with .Error}}{{.Err}}{{end}}", importPath)
	cmd.Dir, cmd.Env = b.Source, environment(b.Arch)
	out, err := run(cmd)
	if err != nil {
		return err
	}
	name, problem, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	switch {
	case problem != "":
		problem, _, _ = strings.Cut(problem, "\n")
		return fmt.Errorf("%s: %s", importPath, problem)
	case name != "main":
		return fmt.Errorf("%s: is a package to import (%s), not a command", importPath, name)
	}
	return nil
}
