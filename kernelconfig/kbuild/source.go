package kbuild

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Source is the source of a kernel: a tar archive, or a directory.
type Source struct {
	Path string
	// Digest is the SHA-256 of the archive, or of the directory's files with their
	// names and modes, in hexadecimal.
	Digest string
	dir    bool
}

// OpenSource looks at the source at path and hashes it.
func OpenSource(ctx context.Context, path string) (*Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open kernel source: %w", err)
	}
	s := &Source{Path: path, dir: st.IsDir()}
	hash := sha256.New()
	if s.dir {
		if _, err := readVersion(path); err != nil {
			return nil, err
		}
		err = hashTree(ctx, hash, path)
	} else {
		err = hashFile(hash, path)
	}
	if err != nil {
		return nil, fmt.Errorf("hash kernel source: %w", err)
	}
	s.Digest = hex.EncodeToString(hash.Sum(nil))
	return s, nil
}

func hashFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// hashTree writes the name, mode and contents of each file below dir to w, in the
// order of their names. Version control's own files are left out.
func hashTree(ctx context.Context, w io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case e.IsDir() && e.Name() == ".git":
			return fs.SkipDir
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s\x00%o\x00%d\x00", name, info.Mode(), info.Size()*btoi(info.Mode().IsRegular()))
		switch {
		case info.Mode().IsRegular():
			return hashFile(w, path)
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			_, _ = io.WriteString(w, target+"\x00") // a hash takes everything
			return err
		}
		return nil
	})
}

func btoi(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// unpack returns the directory of the source, below tmp if it is an archive.
func (s *Source) unpack(ctx context.Context, tmp string, run func(context.Context, *command) error) (string, error) {
	if s.dir {
		if _, err := os.Stat(filepath.Join(s.Path, ".config")); err == nil {
			return "", fmt.Errorf("kernel source %s has been built in: run make mrproper there first", s.Path)
		}
		return s.Path, nil
	}
	dir := filepath.Join(tmp, "source")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	err := run(ctx, &command{step: "unpack", name: "tar", args: []string{"--extract", "--file", s.Path, "--directory", dir, "--strip-components", "1", "--no-same-owner"}})
	if err != nil {
		return "", err
	}
	return dir, nil
}

// readVersion reads the version that the makefile of the source in dir names, as
// 6.1.192.
func readVersion(dir string) (string, error) {
	f, err := os.Open(filepath.Join(dir, "Makefile"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s is no kernel source: it has no Makefile", dir)
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	values := map[string]string{}
	s := bufio.NewScanner(f)
	for n := 0; n < 20 && s.Scan(); n++ {
		if key, value, ok := strings.Cut(s.Text(), "="); ok {
			values[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	if values["VERSION"] == "" || values["PATCHLEVEL"] == "" || values["SUBLEVEL"] == "" {
		return "", fmt.Errorf("%s is no kernel source: its Makefile names no version", dir)
	}
	return values["VERSION"] + "." + values["PATCHLEVEL"] + "." + values["SUBLEVEL"] + values["EXTRAVERSION"], nil
}
