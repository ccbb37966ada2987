package main

import (
	"errors"
	"io"
	"os"

	"storeboot/mkinitrd/uki"
)

// initrdFile is a file that is an initrd, or a unified kernel image that holds
// one.
type initrdFile struct{ *os.File }

func openInitrd(name string) (*initrdFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	return &initrdFile{f}, nil
}

// initrd returns a reader of the initrd from its beginning. What is not a
// regular file can be read once only.
func (f *initrdFile) initrd() (io.Reader, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return f.File, nil
	}
	r, err := uki.Initrd(f.File)
	switch {
	case err == nil:
		return r, nil
	case !errors.Is(err, uki.ErrNotUKI):
		return nil, err
	}
	_, err = f.Seek(0, io.SeekStart)
	return f.File, err
}

// readInitrd opens an initrd to read it once.
func readInitrd(name string) (io.ReadCloser, error) {
	f, err := openInitrd(name)
	if err != nil {
		return nil, err
	}
	r, err := f.initrd()
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{r, f}, nil
}
