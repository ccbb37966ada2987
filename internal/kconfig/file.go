package kconfig

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"storeboot/internal/kernelimage"
)

// ReadFile reads a configuration: a .config, the same compressed with gzip (as
// /proc/config.gz is), a kernel image that carries it (CONFIG_IKCONFIG) or has
// the file config-RELEASE beside it, as distributions install them, or a Debian
// package of a kernel. It returns the path that it read.
func ReadFile(path string) (*Config, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, "", err
	} else if st.IsDir() {
		return nil, "", fmt.Errorf("%s: is a directory; want a .config, /proc/config.gz, a kernel or a kernel's package", path)
	}
	br := bufio.NewReader(f)
	head, _ := br.Peek(len(arMagic))
	var r io.Reader = br
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		r = z
	case bytes.HasPrefix(head, []byte("MZ")), bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return readImage(path)
	case string(head) == arMagic:
		c, name, err := readPackage(br)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		return c, path + ": " + name, nil
	}
	c, err := Parse(r)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}

// readImage reads the configuration in a kernel or, if it carries none, the one
// that a distribution puts beside it.
func readImage(kernel string) (*Config, string, error) {
	img, err := kernelimage.Open(kernel)
	if err != nil {
		return nil, "", err
	}
	text, err := kernelimage.OpenConfig(kernel)
	if err == nil {
		c, err := Parse(bytes.NewReader(text))
		if err != nil {
			return nil, "", fmt.Errorf("%s: the configuration in it: %w", kernel, err)
		}
		return c, kernel, nil
	}
	if !errors.Is(err, kernelimage.ErrNoConfig) {
		return nil, "", err
	}
	path := filepath.Join(filepath.Dir(kernel), "config-"+img.Release)
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("kernel %s: its configuration is neither in it (CONFIG_IKCONFIG) nor beside it: %w: %w", kernel, kernelimage.ErrNoConfig, err)
	}
	defer f.Close()
	c, err := Parse(f)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}
