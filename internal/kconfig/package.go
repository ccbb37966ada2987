package kconfig

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// arMagic begins a Debian package, which is an ar archive (deb(5)).
const arMagic = "!<arch>\n"

// arHeader is the length of the header of a member: name, date, owner, group,
// mode, size, and two bytes that end it.
const arHeader = 60

// readPackage finds boot/config-RELEASE in a Debian package and returns it with
// its name.
func readPackage(r io.Reader) (*Config, string, error) {
	if _, err := io.CopyN(io.Discard, r, int64(len(arMagic))); err != nil {
		return nil, "", err
	}
	header := make([]byte, arHeader)
	for {
		if _, err := io.ReadFull(r, header); errors.Is(err, io.EOF) {
			return nil, "", errors.New("a package without data: not a Debian package")
		} else if err != nil {
			return nil, "", fmt.Errorf("package: %w", err)
		}
		name := strings.TrimRight(string(header[:16]), " /")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != "`\n" {
			return nil, "", errors.New("package: a damaged header")
		}
		if strings.HasPrefix(name, "data.tar") {
			return readData(name, io.LimitReader(r, size))
		}
		if _, err := io.CopyN(io.Discard, r, size+size%2); err != nil {
			return nil, "", fmt.Errorf("package: %w", err)
		}
	}
}

// readData reads the configuration in the tar that holds a package's files.
func readData(name string, r io.Reader) (*Config, string, error) {
	var err error
	switch path.Ext(name) {
	case ".xz":
		r, err = xz.ReaderConfig{DictCap: 128 << 20}.NewReader(r)
	case ".zst":
		r, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
	case ".gz":
		r, err = gzip.NewReader(r)
	case ".tar":
	default:
		err = errors.New("not compressed with xz, zstd or gzip")
	}
	if err != nil {
		return nil, "", fmt.Errorf("package: %s: %w", name, err)
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil, "", errors.New("the package has no boot/config-RELEASE: not that of a kernel")
		}
		if err != nil {
			return nil, "", fmt.Errorf("package: %s: %w", name, err)
		}
		file := strings.TrimPrefix(path.Clean(h.Name), "/")
		if h.Typeflag != tar.TypeReg || !strings.HasPrefix(file, "boot/config-") {
			continue
		}
		c, err := Parse(t)
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", file, err)
		}
		return c, file, nil
	}
}
