package kbuild

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"storeboot/internal/kconfig"
	"storeboot/internal/kernelimage"
)

// Manifest says what a kernel was built from and what came out.
type Manifest struct {
	Version string          `json:"version"` // of the source
	Release string          `json:"release"` // uname -r
	Lock    Lock            `json:"inputs"`
	Options int             `json:"options"` // that are on
	Files   map[string]File `json:"files"`
}

// File is one file of a kernel.
type File struct {
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

const manifestName = "manifest.json"

// writeManifest describes the named files of dir, in dir.
func (b *build) writeManifest(dir, version string, config *kconfig.Config, names []string) error {
	target, _ := b.tools.image()
	img, err := kernelimage.Open(filepath.Join(dir, target))
	if err != nil {
		return err
	}
	m := Manifest{Version: version, Release: img.Release, Lock: b.lock, Files: map[string]File{}}
	m.Lock.Kernel = version
	for _, name := range config.Names() {
		if config.Get(name) != kconfig.No {
			m.Options++
		}
	}
	for _, name := range names {
		f, err := describe(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		m.Files[name] = f
	}
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, manifestName), append(data, '\n'), 0o644)
}

func describe(path string) (File, error) {
	hash := sha256.New()
	if err := hashFile(hash, path); err != nil {
		return File{}, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return File{}, err
	}
	return File{Size: st.Size(), SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

// readManifest reads the manifest of a kernel, and holds its files to it.
func readManifest(dir string) (Manifest, error) {
	var m Manifest
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Join(dir, manifestName), err)
	}
	for name, want := range m.Files {
		got, err := describe(filepath.Join(dir, name))
		if err != nil {
			return m, err
		}
		if got != want {
			return m, fmt.Errorf("%s is not what was built: remove the directory to build again", filepath.Join(dir, name))
		}
	}
	return m, nil
}
