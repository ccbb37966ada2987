package gobuild

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// modulePath is the module that the programs belong to.
const modulePath = "storeboot"

// SourceVariable is the environment variable that names the source.
const SourceVariable = "STOREBOOT_SOURCE"

// ErrNoSource is the error of [FindSource] where there is no source and none
// was named.
var ErrNoSource = errors.New("the source of " + modulePath + " was not found: give --source DIR or set " + SourceVariable)

// FindSource returns the directory of this module's source: the one given, or
// the environment's, or the first that has the module's go.mod, from the
// directory of the executable upwards, and then from the working directory.
func FindSource(given string) (string, error) {
	for _, named := range []string{given, os.Getenv(SourceVariable)} {
		if named == "" {
			continue
		}
		if err := isSource(named); err != nil {
			return "", err
		}
		return filepath.Abs(named)
	}
	var starts []string
	if exe, err := os.Executable(); err == nil {
		if exe, err = filepath.EvalSymlinks(exe); err == nil {
			starts = append(starts, filepath.Dir(exe))
		}
	}
	if wd, err := os.Getwd(); err == nil {
		starts = append(starts, wd)
	}
	for _, dir := range starts {
		for {
			if isSource(dir) == nil {
				return dir, nil
			}
			parent := filepath.Dir(dir)
			if parent == dir {
				break
			}
			dir = parent
		}
	}
	return "", ErrNoSource
}

// isSource says whether dir has the module's go.mod.
func isSource(dir string) error {
	f, err := os.Open(filepath.Join(dir, "go.mod"))
	if err != nil {
		return fmt.Errorf("source directory: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		if name, ok := strings.CutPrefix(strings.TrimSpace(s.Text()), "module "); ok && strings.Trim(name, ` "`) == modulePath {
			return nil
		}
	}
	return fmt.Errorf("source directory %s: its go.mod is not that of module %s", dir, modulePath)
}
