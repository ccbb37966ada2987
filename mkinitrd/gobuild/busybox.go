package gobuild

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

const (
	commandModule = "github.com/u-root/u-root"
	commandDir    = "cmds/core"
	// generatorPackage is gobusybox's command. It is run, not linked: so it can
	// be neither slow nor fatal where nothing has to be built.
	generatorPackage = "github.com/u-root/gobusybox/src/cmd/makebb"
	// mainPackage is what gobusybox calls the program that it generates.
	mainPackage = "bb.u-root.com/bb"
)

// Commands builds one program of u-root's commands with the names, and of those
// of other modules in the build list, named by their import paths, and returns
// the file. It runs the command that it is called as. The version of u-root is
// that of this module's go.mod, and so are those of what the commands import.
func (b *Builder) Commands(ctx context.Context, names []string) (string, error) {
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	key, err := b.key(ctx, append([]string{"commands"}, names...)...)
	if err != nil {
		return "", fmt.Errorf("build commands: %w", err)
	}
	file, err := b.Cache.file(ctx, key.sum(), "bb", func(out string) error {
		b.Log.Info("building", "commands", len(names), "arch", b.Arch)
		return b.busybox(ctx, key.tools, names, out)
	})
	if err != nil {
		return "", fmt.Errorf("build commands: %w", err)
	}
	return file, nil
}

func (b *Builder) busybox(ctx context.Context, tools *toolchain, names []string, out string) error {
	paths, err := b.commandPaths(ctx, tools, names)
	if err != nil {
		return err
	}
	root, err := tools.root(ctx, b.Source)
	if err != nil {
		return err
	}
	goCommand := filepath.Join(root, "bin", "go")
	tmp := filepath.Dir(out)
	// The generator runs here, whatever its output is for. It is a process of
	// its own: it takes a GiB of memory, and ends itself at an error.
	generator := filepath.Join(tmp, "makebb")
	build := exec.CommandContext(ctx, goCommand, "build", "-mod=readonly", "-o", generator, generatorPackage)
	build.Dir = b.Source
	build.Env = environment(runtime.GOARCH, "GOROOT="+root, "GOTOOLCHAIN=local")
	if _, err := run(build); err != nil {
		return fmt.Errorf("build gobusybox: %w", err)
	}
	tree := filepath.Join(tmp, "tree")
	generate := exec.CommandContext(ctx, generator, append([]string{"-g", "-gen-dir", tree, "-go-mod", "readonly"}, paths...)...)
	generate.Dir = b.Source
	generate.Env = environment(b.Arch, "GO111MODULE=on", "GOROOT="+root, "GOTOOLCHAIN=local", "GBB_PATH=", "UROOT_SOURCE=")
	said, err := run(generate)
	if err != nil {
		// It speaks on its standard output; the last line is the error.
		lines := strings.Split(strings.TrimSpace(string(said)), "\n")
		return fmt.Errorf("generate the program: %w: %s", err, lines[len(lines)-1])
	}
	// The tree is laid out for the mode without modules: all dependencies are
	// in it.
	args := append([]string{"build", "-o", out}, flags...)
	compile := exec.CommandContext(ctx, goCommand, append(args, mainPackage)...)
	compile.Dir = filepath.Join(tree, "src", mainPackage)
	compile.Env = environment(b.Arch, "GO111MODULE=off", "GOPATH="+tree, "GOROOT="+root, "GOTOOLCHAIN=local")
	_, err = run(compile)
	return err
}

// commandPaths checks that the commands are in the pinned version of u-root,
// and that this module has what they import: gobusybox's own errors for that
// run over pages.
func (b *Builder) commandPaths(ctx context.Context, tools *toolchain, names []string) ([]string, error) {
	list := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, tools.path, append([]string{"list", "-mod=readonly"}, args...)...)
		cmd.Dir, cmd.Env = b.Source, environment(b.Arch)
		out, err := run(cmd)
		return strings.TrimSpace(string(out)), err
	}
	mod, err := list("-m", "-f", "{{.Version}}\n{{.Dir}}", commandModule)
	if err != nil {
		return nil, err
	}
	version, dir, _ := strings.Cut(mod, "\n")
	if dir == "" {
		// Not downloaded yet.
		if _, err := list(commandModule + "/" + commandDir + "/true"); err != nil {
			return nil, err
		}
		if dir, err = list("-m", "-f", "{{.Dir}}", commandModule); err != nil {
			return nil, err
		}
	}
	var paths []string
	for _, name := range names {
		if strings.Contains(name, "/") {
			if err := b.checkCommand(ctx, tools, name); err != nil {
				return nil, err
			}
			paths = append(paths, name)
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, commandDir, name)); err != nil {
			return nil, fmt.Errorf("command %q is not one of u-root %s (%s)", name, version, path.Join(commandModule, commandDir))
		}
		paths = append(paths, path.Join(commandModule, commandDir, name))
	}
	if i := slices.IndexFunc(paths, func(p string) bool {
		return slices.ContainsFunc(paths, func(q string) bool { return p != q && path.Base(p) == path.Base(q) })
	}); i >= 0 {
		return nil, fmt.Errorf("command %s: is there twice, of two packages", path.Base(paths[i]))
	}
	out, err := list(append([]string{"-deps", "-e", "-f", `{{if .DepsErrors}}{{if eq .Name "main"}}{{.ImportPath}}{{end}}{{end}}`}, paths...)...)
	if err != nil {
		return nil, err
	}
	if lacking := strings.Fields(out); len(lacking) > 0 {
		for i := range lacking {
			lacking[i] = path.Base(lacking[i])
		}
		return nil, fmt.Errorf("command %s of u-root: imports modules that %s's go.mod lacks", strings.Join(lacking, ", "), modulePath)
	}
	return paths, nil
}
