package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// output is where a build goes: a file that appears, whole, by a rename; or,
// where that cannot be, what there is.
type output struct {
	*bufio.Writer
	n     int64
	path  string
	tmp   *os.File // nil: written directly
	named bool     // tmp has its final name
	raw   io.Writer
	close func() error
}

// createOutput begins to write path; "-" is stdout. A path that is a device, a
// pipe or a socket is written to, never replaced.
func createOutput(path string, stdout io.Writer) (*output, error) {
	o := &output{path: path, close: func() error { return nil }}
	o.Writer = bufio.NewWriterSize(counted{o}, 256<<10)
	if path == "-" {
		o.raw = stdout
		return o, nil
	}
	// What a link points to is replaced, not the link.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		o.path = real
	}
	switch st, err := os.Stat(o.path); {
	case err == nil && st.IsDir():
		return nil, fmt.Errorf("write %s: is a directory: name a file in it", path)
	case err == nil && !st.Mode().IsRegular():
		f, err := os.OpenFile(o.path, os.O_WRONLY, 0)
		if err != nil {
			return nil, fmt.Errorf("write output: %w", err)
		}
		o.raw, o.close = f, f.Close
		return o, nil
	}
	dir := filepath.Dir(o.path)
	if st, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("write %s: its directory is not there: %w", path, err)
	} else if !st.IsDir() {
		return nil, fmt.Errorf("write %s: %s is not a directory", path, dir)
	}
	for {
		name := filepath.Join(dir, fmt.Sprintf(".%s.%08x.tmp", strings.TrimPrefix(filepath.Base(o.path), "."), rand.Uint32()))
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
		if os.IsExist(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("write %s: %w", path, unwrapPath(err))
		}
		o.tmp, o.raw = f, f
		return o, nil
	}
}

// unwrapPath leaves out the name of a temporary file, which says nothing.
func unwrapPath(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

// commit makes the output visible.
func (o *output) commit() error {
	if err := o.Flush(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, unwrapPath(err))
	}
	if o.tmp == nil {
		return o.close()
	}
	if err := o.tmp.Close(); err != nil {
		return fmt.Errorf("write %s: %w", o.path, unwrapPath(err))
	}
	if err := os.Rename(o.tmp.Name(), o.path); err != nil {
		return fmt.Errorf("write %s: %w", o.path, err)
	}
	o.named = true
	return nil
}

// discard removes what was not committed.
func (o *output) discard() {
	if o.tmp != nil && !o.named {
		_ = o.tmp.Close()
		_ = os.Remove(o.tmp.Name())
	}
}

// counted counts what reaches the output.
type counted struct{ o *output }

func (c counted) Write(p []byte) (int, error) {
	n, err := c.o.raw.Write(p)
	c.o.n += int64(n)
	return n, err
}
