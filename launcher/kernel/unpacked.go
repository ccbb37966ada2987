package kernel

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"storeboot/internal/kernelimage"
)

// Unpacked is the vmlinux in the bzImage at path, kept in the directory cache by
// the image's place, size and time. Where it cannot be unpacked or kept, it is
// path itself, which boots too.
func Unpacked(path, cache string) string {
	if cache == "" {
		return path
	}
	st, err := os.Stat(path)
	if err != nil {
		return path
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", path, st.Size(), st.ModTime().UnixNano()))
	out := filepath.Join(cache, "vmlinux-"+hex.EncodeToString(key[:8]))
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if err := unpack(path, out); err != nil {
		return path
	}
	return out
}

func unpack(path, out string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := kernelimage.Payload(f)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(out), "vmlinux-new-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // nothing is there once it has its name
	if _, err = io.Copy(tmp, r); err != nil {
		_ = tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	if img, err := kernelimage.Open(tmp.Name()); err != nil || img.Format != kernelimage.ELF {
		return fmt.Errorf("%s holds no ELF file: %w", path, err)
	}
	return os.Rename(tmp.Name(), out)
}
