package kbuild

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// lockVersion is the version of the form of lock files.
const lockVersion = 1

// Lock pins all that a kernel is built from.
type Lock struct {
	Version   int    `json:"version"` // of this form
	Kernel    string `json:"kernel"`
	Arch      string `json:"arch"`
	Source    string `json:"source_sha256"`
	Fragments string `json:"fragments"`
	Config    string `json:"fragment_sha256"`
	Compiler  string `json:"compiler"`
	Linker    string `json:"linker"`
}

// ReadLock reads a lock file, strictly. It returns fs.ErrNotExist, wrapped, if
// there is none.
func ReadLock(path string) (*Lock, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read lock: %w", err)
	}
	var l Lock
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return nil, fmt.Errorf("read lock %s: %w", path, err)
	}
	if l.Version != lockVersion {
		return nil, fmt.Errorf("read lock %s: its version is %d, not %d", path, l.Version, lockVersion)
	}
	return &l, nil
}

// check compares what a build would use with the lock.
func (l *Lock) check(now Lock) error {
	var wrong []string
	for _, x := range []struct{ what, locked, now string }{
		{"architecture", l.Arch, now.Arch}, {"source", l.Source, now.Source}, {"fragments", l.Fragments, now.Fragments},
		{"options", l.Config, now.Config}, {"compiler", l.Compiler, now.Compiler}, {"linker", l.Linker, now.Linker},
	} {
		if x.locked != x.now {
			wrong = append(wrong, fmt.Sprintf("%s: locked %s, here %s", x.what, x.locked, x.now))
		}
	}
	if wrong != nil {
		return errors.New("the lock does not hold (--update-lock writes a new one): " + strings.Join(wrong, "; "))
	}
	return nil
}

// write replaces the lock file.
func (l Lock) write(path string) error {
	data, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write lock: %w", err)
	}
	return nil
}

// checkLock holds the build to the lock file at path. Without one, or if update
// is set, write is true: the lock is to be written after the build.
func checkLock(path string, update bool, now Lock) (write bool, err error) {
	if path == "" {
		return false, nil
	}
	l, err := ReadLock(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), update:
		return true, nil
	case err != nil:
		return false, err
	}
	if err := l.check(now); err != nil {
		return false, fmt.Errorf("lock %s: %w", path, err)
	}
	return false, nil
}
