package ingest

import (
	"golang.org/x/sys/unix"
)

// file sends a regular file.
func (w *walker) file(dir int, at, name string, st *unix.Stat_t) error {
	fd, err := openSame(dir, at, 0, st)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	f := newFile(uint64(st.Size), st.Mode&0o100 != 0)
	p := w.pipe
	if err := send(p.ctx, p.events, event{kind: regular, name: name, file: f}); err != nil {
		return err
	}
	if err := send(p.ctx, p.files, f); err != nil {
		return err
	}
	for left := f.size; left > 0; {
		c, err := p.chunk()
		if err != nil {
			return err
		}
		c.buf = c.buf[:min(left, chunkSize)]
		if err := readFull(fd, c.buf); err != nil {
			return err
		}
		left -= uint64(len(c.buf))
		if left == 0 {
			// Before the last chunk goes out, so that nothing is stored
			// under the digest of a mixture.
			if err := unchanged(fd, identityOf(st)); err != nil {
				return err
			}
		}
		w.progress(0, int64(len(c.buf)))
		c.users.Store(2)
		if err := send(p.ctx, f.content, c); err != nil {
			return err
		}
		if err := send(p.ctx, p.events, event{kind: data, chunk: c}); err != nil {
			return err
		}
	}
	w.progress(1, 0)
	return nil
}

// readFull fills buf; the end of the file before is a change.
func readFull(fd int, buf []byte) error {
	for len(buf) > 0 {
		n, err := retry(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil {
			return err
		}
		if n == 0 {
			return errChanged
		}
		buf = buf[n:]
	}
	return nil
}
