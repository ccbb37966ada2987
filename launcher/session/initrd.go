package session

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/internal/newc"
)

// copyInitrd copies the user's initrd, which is never changed, to dst.
func copyInitrd(dst, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("open initrd: %w", err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return fmt.Errorf("open initrd: %w", err)
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("open initrd %s: not a regular file", src)
	}
	out, err := os.OpenFile(dst, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("copy initrd: %w", err)
	}
	if _, err := io.Copy(out, in); err != nil {
		_ = out.Close()
		return fmt.Errorf("copy initrd: %w", err)
	}
	if err := out.Close(); err != nil {
		return fmt.Errorf("copy initrd: %w", err)
	}
	return nil
}

// appendRunSpec appends spec to the initrd at file as one more segment: the
// kernel unpacks archives that stand one behind the other, compressed or not,
// each on a multiple of 4 bytes (Documentation/driver-api/early-userspace/
// buffer-format.rst).
func appendRunSpec(file string, spec *bootproto.RunSpec) error {
	if err := spec.Check(); err != nil {
		return fmt.Errorf("run specification: %w", err)
	}
	data, err := json.Marshal(spec)
	if err != nil {
		return fmt.Errorf("run specification: %w", err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("append to initrd: %w", err)
	}
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Write(make([]byte, -end&3))
	}
	if err == nil {
		err = writeSpec(f, data)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("append to initrd: %w", err)
	}
	return nil
}

// writeSpec writes the segment: the file, and its directories for an initrd
// that lacks them.
func writeSpec(w io.Writer, data []byte) error {
	n := newc.NewWriter(w)
	name := strings.TrimPrefix(bootproto.RunSpecPath, "/")
	ino := uint32(1)
	var dirs []string
	for d := path.Dir(name); d != "."; d = path.Dir(d) {
		dirs = append([]string{d}, dirs...)
	}
	for _, d := range dirs {
		if err := n.WriteHeader(&newc.Header{Name: d, Mode: newc.TypeDirectory | 0o755, NLink: 2, Ino: ino}); err != nil {
			return err
		}
		ino++
	}
	h := newc.Header{Name: name, Mode: newc.TypeRegular | 0o644, NLink: 1, Ino: ino, Size: int64(len(data))}
	if err := n.WriteHeader(&h); err != nil {
		return err
	}
	if _, err := n.Write(data); err != nil {
		return err
	}
	return n.Close()
}
