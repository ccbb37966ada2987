package bootcheck

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"storeboot/internal/kconfig"
	"storeboot/internal/kernelimage"
	"storeboot/mkinitrd/compress"
)

// Config is a kernel's configuration.
type Config struct {
	From string // the file that it comes from
	*kconfig.Config
}

// On says whether an option, named without CONFIG_, is built in.
func (c *Config) On(name string) bool { return c.Get(name) == kconfig.Yes }

// codecOptions are the options that the codecs of the unpacker have.
var codecOptions = map[compress.Codec]string{
	compress.Gzip: "RD_GZIP", compress.Bzip2: "RD_BZIP2", compress.LZMA: "RD_LZMA", compress.XZ: "RD_XZ",
	compress.LZO: "RD_LZO", compress.LZ4: "RD_LZ4", compress.Zstd: "RD_ZSTD",
}

// Lacks are the codecs that the kernel cannot unpack; a nil c lacks none.
func (c *Config) Lacks() []compress.Codec {
	var out []compress.Codec
	if c == nil {
		return nil
	}
	for codec, option := range codecOptions {
		if !c.On(option) {
			out = append(out, codec)
		}
	}
	return out
}

// ReadConfig reads the configuration in a file, in any form that kconfig reads.
func ReadConfig(path string) (*Config, error) {
	c, from, err := kconfig.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return &Config{from, c}, nil
}

// ConfigsBeside are the files that may be the configuration of the kernel image
// at path, the first that exists.
func ConfigsBeside(path, release string) []string {
	dir := filepath.Dir(path)
	return []string{filepath.Join(dir, "config-"+release), filepath.Join(dir, ".config")}
}

// ConfigBeside reads the configuration beside the kernel image at path,
// config-RELEASE or .config. It is nil where there is none.
func ConfigBeside(path, release string) (*Config, error) {
	for _, name := range ConfigsBeside(path, release) {
		c, err := ReadConfig(name)
		if !errors.Is(err, os.ErrNotExist) {
			return c, err
		}
	}
	return nil, nil
}

// FindConfig finds the configuration beside the kernel image at path or, if it
// was built with IKCONFIG, in it, which takes unpacking it. It is nil where
// there is none.
func FindConfig(path, release string) (*Config, error) {
	if c, err := ConfigBeside(path, release); c != nil || err != nil {
		return c, err
	}
	text, err := kernelimage.OpenConfig(path)
	if errors.Is(err, kernelimage.ErrNoConfig) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := kconfig.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("configuration in kernel %s: %w", path, err)
	}
	return &Config{path, c}, nil
}
