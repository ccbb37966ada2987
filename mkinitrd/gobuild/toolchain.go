package gobuild

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// ErrNoGo says that a program has to be built and there is no Go.
var ErrNoGo = errors.New("go is not in $PATH: install Go (https://go.dev/dl)")

// toolchain is the go command that is found first in $PATH.
type toolchain struct {
	path    string
	version string // all that identifies it
}

// findToolchain reads the version from the VERSION file beside the command,
// which saves running it; a go command elsewhere is asked.
func findToolchain(ctx context.Context) (*toolchain, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, ErrNoGo
	}
	t := &toolchain{path: path}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("find go: %w", err)
	}
	version, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Dir(real)), "VERSION"))
	if err != nil || !bytes.HasPrefix(version, []byte("go")) {
		if version, err = exec.CommandContext(ctx, path, "version").Output(); err != nil {
			return nil, fmt.Errorf("run %s version: %w", path, err)
		}
	}
	// A newer toolchain that go.mod asks for is chosen by go.mod, which is in
	// the key too, and by this variable.
	t.version = string(version) + "\nGOTOOLCHAIN=" + os.Getenv("GOTOOLCHAIN")
	return t, nil
}

// root asks for the GOROOT of the toolchain that is used in dir: go.mod may
// ask for a newer one than the go command in $PATH.
func (t *toolchain) root(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, t.path, "env", "GOROOT")
	cmd.Dir = dir
	out, err := run(cmd)
	if err != nil {
		return "", fmt.Errorf("run go env: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// run runs a command and returns its output; the error has what the command
// said, the first lines of it in one.
func run(cmd *exec.Cmd) ([]byte, error) {
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		const most = 5
		var said []string
		for line := range strings.Lines(errOut.String()) {
			if line = strings.TrimSpace(line); line != "" && len(said) < most {
				said = append(said, line)
			}
		}
		if len(said) == 0 {
			return out.Bytes(), err
		}
		return out.Bytes(), fmt.Errorf("%w: %s", err, strings.Join(said, "; "))
	}
	return out.Bytes(), nil
}

// environment is the process's own, without what would change the output.
func environment(arch string, more ...string) []string {
	return append(os.Environ(), append([]string{
		"CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch,
		"GOAMD64=v1", "GOARM64=v8.0", "GORISCV64=rva20u64", "GO386=sse2",
		"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
	}, more...)...)
}
