package kernelimage

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
)

// ErrNoConfig is what [Config] returns for a kernel that does not carry its
// configuration.
var ErrNoConfig = errors.New("the kernel does not carry its configuration (CONFIG_IKCONFIG)")

const (
	// configMark stands before the configuration in the kernel's read-only data
	// (kernel/configs.c); gzip's magic follows.
	configMark = "IKCFG_ST\x1f\x8b\x08"
	// maxConfig is the longest configuration that is read, in bytes; those of
	// distributions are below 300 KiB.
	maxConfig = 16 << 20
)

// Config returns the .config that the kernel image in r carries: a bzImage, a
// vmlinux, or a flat Image that is not compressed.
func Config(r io.ReaderAt) ([]byte, error) {
	head := make([]byte, 0x206)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, err
	}
	var data io.Reader = io.NewSectionReader(r, 0, maxPayload)
	if string(head[0x202:]) == "HdrS" {
		var err error
		if data, err = Payload(r); err != nil {
			return nil, err
		}
	}
	packed, err := after(data, configMark)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(io.MultiReader(bytes.NewReader([]byte(configMark[len(configMark)-3:])), packed))
	if err != nil {
		return nil, fmt.Errorf("configuration in the kernel: %w", err)
	}
	z.Multistream(false)
	text, err := io.ReadAll(io.LimitReader(z, maxConfig+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("configuration in the kernel: %w", err)
	case len(text) > maxConfig:
		return nil, fmt.Errorf("configuration in the kernel: longer than %d MiB", maxConfig>>20)
	}
	return text, nil
}

// after reads r up to the first mark and returns what follows it.
func after(r io.Reader, mark string) (io.Reader, error) {
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if i := bytes.Index(buf, []byte(mark)); i >= 0 {
			return io.MultiReader(bytes.NewReader(buf[i+len(mark):]), r), nil
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil, ErrNoConfig
		default:
			return nil, err
		}
		keep := len(mark) - 1
		buf = append(buf[:0], buf[len(buf)-keep:]...)
	}
}
