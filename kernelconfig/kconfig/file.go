package kconfig

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"storeboot/internal/kernelimage"
)

// ReadFile reads a configuration: a .config, the same compressed with gzip (as
// /proc/config.gz is), or a kernel image with the file config-RELEASE beside
// it, as distributions install them. It returns the path that it read.
func ReadFile(path string) (*Config, string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return nil, "", err
	} else if st.IsDir() {
		return nil, "", fmt.Errorf("%s: is a directory; want a .config, /proc/config.gz or a kernel", path)
	}
	br := bufio.NewReader(f)
	head, _ := br.Peek(2)
	var r io.Reader = br
	switch {
	case bytes.Equal(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", path, err)
		}
		r = z
	case bytes.Equal(head, []byte("MZ")), bytes.Equal(head, []byte("\x7fE")):
		return readBeside(path)
	}
	c, err := Parse(r)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}

// readBeside reads the configuration that a distribution puts beside a kernel.
func readBeside(kernel string) (*Config, string, error) {
	img, err := kernelimage.Open(kernel)
	if err != nil {
		return nil, "", err
	}
	path := filepath.Join(filepath.Dir(kernel), "config-"+img.Release)
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("kernel %s: its configuration is not beside it: %w", kernel, err)
	}
	defer f.Close()
	c, err := Parse(f)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	return c, path, nil
}
