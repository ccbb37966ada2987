package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// findProgram finds one of our own programs: the file that a flag names, or the
// one beside this program, or the one in $PATH.
func findProgram(name, flag string) (string, error) {
	if flag != "" {
		path, err := exec.LookPath(flag)
		if err == nil {
			path, err = filepath.Abs(path)
		}
		if err != nil {
			return "", fmt.Errorf("--%s: %w", name, err)
		}
		return path, nil
	}
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", fmt.Errorf("%s is neither beside launcher nor in $PATH: build it there (go build ./%s) or use --%s FILE", name, name, name)
	}
	return path, nil
}
