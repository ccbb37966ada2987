package elfdep

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// root is the root directory that links are followed in.
type root struct{ dir string } // "" is this machine's

const (
	maxLinks = 40 // as the kernel follows
	maxConf  = 1 << 20
	maxDirs  = 4096
)

// regular returns the file on this machine behind a path in the root, with all
// links followed. The error wraps [ErrNotFound] if there is none.
func (r root) regular(p string) (string, error) {
	rest, at := strings.TrimPrefix(path.Clean("/"+p), "/"), "/"
	for links := 0; rest != ""; {
		var step string
		step, rest, _ = strings.Cut(rest, "/")
		next := path.Join(at, step)
		st, err := os.Lstat(r.dir + next)
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("%s: %w", p, ErrNotFound)
			}
			return "", err
		}
		if st.Mode()&fs.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: more than %d symbolic links", p, maxLinks)
		}
		target, err := os.Readlink(r.dir + next)
		if err != nil {
			return "", err
		}
		if !path.IsAbs(target) {
			target = path.Join(at, target)
		}
		rest, at = strings.TrimPrefix(path.Clean(target+"/"+rest), "/"), "/"
	}
	st, err := os.Stat(r.dir + at)
	if err != nil {
		return "", err
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", p)
	}
	return r.dir + at, nil
}

// readConf reads the directories of /etc/ld.so.conf and what it includes.
func readConf(r root) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	var read func(p string) error
	read = func(p string) error {
		if seen[p] {
			return nil
		}
		seen[p] = true
		file, err := r.regular(p)
		if err != nil {
			return nil // what is not there names nothing
		}
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		s := bufio.NewScanner(io.LimitReader(f, maxConf))
		for s.Scan() {
			line, _, _ := strings.Cut(s.Text(), "#")
			words := strings.Fields(line)
			if len(words) == 0 {
				continue
			}
			if words[0] != "include" {
				for _, w := range strings.FieldsFunc(line, func(c rune) bool { return strings.ContainsRune(" \t:,", c) }) {
					if path.IsAbs(w) && len(out) < maxDirs {
						out = append(out, path.Clean(w))
					}
				}
				continue
			}
			for _, pattern := range words[1:] {
				if !path.IsAbs(pattern) {
					pattern = path.Join(path.Dir(p), pattern)
				}
				files, _ := filepath.Glob(r.dir + pattern)
				slices.Sort(files)
				for _, f := range files {
					if len(seen) > maxDirs {
						return fmt.Errorf("%s: includes more than %d files", p, maxDirs)
					}
					if err := read(strings.TrimPrefix(f, r.dir)); err != nil {
						return err
					}
				}
			}
		}
		return s.Err()
	}
	err := read("/etc/ld.so.conf")
	return out, err
}

// muslDirs are the directories of musl's loader.
func (r root) muslDirs(arch string) []string {
	file, err := r.regular("/etc/ld-musl-" + arch + ".path")
	if err != nil {
		return []string{"/lib", "/usr/local/lib", "/usr/lib"}
	}
	f, err := os.Open(file)
	if err != nil {
		return nil
	}
	defer f.Close()
	data, _ := io.ReadAll(io.LimitReader(f, maxConf))
	return strings.FieldsFunc(string(data), func(c rune) bool { return c == ':' || c == '\n' })
}
