package gobuild

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// keyVersion changes when this package builds differently.
const keyVersion = "1"

// key is a hash of all that shapes a program. Every part is preceded by its
// length: no two lists of parts have the same bytes.
type key struct {
	tools *toolchain
	h     hash.Hash
}

func newKey(t *toolchain) *key {
	k := &key{tools: t, h: sha256.New()}
	k.add(keyVersion)
	return k
}

func (k *key) add(parts ...string) {
	for _, p := range parts {
		var n [8]byte
		binary.LittleEndian.PutUint64(n[:], uint64(len(p)))
		k.h.Write(n[:])
		k.h.Write([]byte(p))
	}
}

// addSources adds the files in the directories below root: all but tests, as
// Go programs may embed any.
func (k *key) addSources(root string, dirs ...string) error {
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "testdata" {
					return filepath.SkipDir
				}
				return nil
			}
			if strings.HasSuffix(path, "_test.go") || !d.Type().IsRegular() {
				return nil
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			k.add(filepath.ToSlash(rel), string(data))
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (k *key) sum() string { return hex.EncodeToString(k.h.Sum(nil)[:20]) }
