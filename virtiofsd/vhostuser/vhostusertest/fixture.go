package vhostusertest

import (
	"fmt"
	"os"
	"path/filepath"
)

// fixtureFiles are the files of the tree that the conformance suite expects a
// daemon to serve, by path, with their sizes; their contents are FixtureByte.
var fixtureFiles = map[string]int{
	"empty": 0, "small": 6, "page": 4096, "large": 3<<20 + 5, "dir/nested": 10000, "dir/deep/er": 1,
}

const (
	fixtureMany   = 300 // files in "many", named 000 and so on
	fixtureTarget = "dir/nested"
)

// FixtureByte is the byte at an offset of the file with that path.
func FixtureByte(path string, offset int) byte {
	return byte(offset) ^ byte(offset>>8) ^ byte(offset>>16) ^ byte(len(path)*37)
}

func fixtureContents(path string, offset, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = FixtureByte(path, offset+i)
	}
	return b
}

// WriteFixture makes the tree in dir, which is there.
func WriteFixture(dir string) error {
	for path, size := range fixtureFiles {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, fixtureContents(path, 0, size), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "program"), nil, 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(dir, "many"), 0o755); err != nil {
		return err
	}
	for i := range fixtureMany {
		if err := os.WriteFile(filepath.Join(dir, "many", fmt.Sprintf("%03d", i)), nil, 0o644); err != nil {
			return err
		}
	}
	return os.Symlink(fixtureTarget, filepath.Join(dir, "link"))
}
