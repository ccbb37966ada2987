package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// What the tree holds.
const (
	bigSize = 1 << 30 // bytes of "big"

	smallDirs, smallFiles     = 200, 100   // "small": 20,000 files of up to 4,000 bytes
	shortDirs, shortFiles     = 100, 100   // "short": 10,000 files
	walkDirs, walkFiles       = 1000, 100  // "walk": 100,000 files
	millionDirs, millionFiles = 1000, 1000 // "million"
)

// prepare makes our virtiofsd, the tree and the store in o.dir, as far as they
// are not there, and returns the store path of the tree.
func prepare(ctx context.Context, o options) (path string, err error) {
	if err := os.MkdirAll(o.dir, 0o755); err != nil {
		return "", err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", o.dir+"/", "storeboot/virtiofsd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%q: %w\n%s", build.Args, err, out)
	}
	kept := filepath.Join(o.dir, "path") // written last: what it stands for is whole
	if o.million {
		kept += "-million"
	}
	if b, err := os.ReadFile(kept); err == nil {
		return string(b), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "\rfsbench: making the tree")
	tree := filepath.Join(o.dir, "tree")
	if err := makeTree(tree, o.million); err != nil {
		return "", err
	}
	fmt.Fprintf(os.Stderr, "\rfsbench: importing the tree")
	imp := exec.CommandContext(ctx, filepath.Join(o.dir, "virtiofsd"), "import", "--store", filepath.Join(o.dir, "store"), tree)
	var stderr bytes.Buffer
	imp.Stderr = &stderr
	out, err := imp.Output()
	if err != nil {
		return "", fmt.Errorf("import: %w\n%s", err, &stderr)
	}
	path = strings.TrimSpace(string(out))
	return path, os.WriteFile(kept, []byte(path), 0o644)
}

func makeTree(tree string, million bool) error {
	random := rand.NewChaCha8([32]byte{1})
	if err := os.MkdirAll(tree, 0o755); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(tree, "big"))
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for range bigSize / len(buf) {
		_, _ = random.Read(buf) // it has no errors
		if _, err := f.Write(buf); err != nil {
			return err
		}
	}
	if err := f.Close(); err != nil {
		return err
	}
	err = makeFiles(filepath.Join(tree, "small"), smallDirs, smallFiles, func(string) []byte {
		b := buf[:100+random.Uint64()%3900]
		_, _ = random.Read(b)
		return b
	})
	if err != nil {
		return err
	}
	named := func(name string) []byte { return []byte(name) }
	if err := makeFiles(filepath.Join(tree, "short"), shortDirs, shortFiles, named); err != nil {
		return err
	}
	if err := makeFiles(filepath.Join(tree, "walk"), walkDirs, walkFiles, named); err != nil || !million {
		return err
	}
	return makeFiles(filepath.Join(tree, "million"), millionDirs, millionFiles, named)
}

// fileName is the path of a file in its part of the tree.
func fileName(dir, file int) string { return fmt.Sprintf("%04d/%s", dir, baseName(file)) }

func baseName(file int) string { return fmt.Sprintf("file-%04d", file) }

func makeFiles(root string, dirs, files int, contents func(name string) []byte) error {
	for d := range dirs {
		if err := os.MkdirAll(filepath.Join(root, fmt.Sprintf("%04d", d)), 0o755); err != nil {
			return err
		}
		for i := range files {
			name := fileName(d, i)
			if err := os.WriteFile(filepath.Join(root, name), contents(name), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}
