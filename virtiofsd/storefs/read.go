package storefs

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"storeboot/virtiofsd/castore"
)

// openRead prepares to read at most size bytes of a file: it returns the blob,
// which is to be released, and how many bytes there are. With none there is no
// blob.
func (m *mount) openRead(w waiter, id, offset uint64, size int) (*openBlob, int, syscall.Errno) {
	if id == rootID {
		return nil, 0, syscall.EISDIR
	}
	at, errno := m.find(w, id)
	if errno != 0 {
		return nil, 0, errno
	}
	switch at.kind() {
	case castore.KindDirectory:
		return nil, 0, syscall.EISDIR
	case castore.KindSymlink:
		return nil, 0, syscall.EINVAL
	}
	length := at.size()
	if offset >= length || size <= 0 {
		return nil, 0, 0
	}
	digest := at.digest()
	b, err := m.fs.blobs.acquire(w, digest)
	if err != nil {
		return nil, 0, m.broken("blob "+digest.String(), err)
	}
	if uint64(b.Size()) != length {
		m.fs.blobs.release(b)
		return nil, 0, m.broken("blob "+digest.String(), fmt.Errorf("it has %d bytes and not %d, as its directory says: %w", b.Size(), length, castore.ErrDamaged))
	}
	return b, int(min(uint64(size), length-offset)), 0
}

// cachedReader is a blob that may have contents at hand.
type cachedReader interface {
	// ReadCached reads as ReadAt does, all of p, if that needs no waiting, and
	// says whether it did.
	ReadCached(p []byte, offset int64) bool
}

// read fills s from a blob: from the page cache, or from what the blob has in
// memory, straight to where it belongs. Only what has to be waited for takes a
// way round, as who asked may be gone when it comes.
func (fs *FS) read(w waiter, b *openBlob, s *scatter, offset int64) syscall.Errno {
	size := s.size
	err := fs.fill(w, b, s, offset)
	if err != nil {
		if errors.Is(err, errGone) {
			return syscall.EINTR
		}
		fs.log.Error("cannot serve", "what", "blob "+b.digest.String(), "offset", offset, "bytes", size, "error", err)
		return syscall.EIO
	}
	fs.stats.ReadBytes.Add(uint64(size))
	return 0
}

func (fs *FS) fill(w waiter, b *openBlob, s *scatter, offset int64) error {
	if b.file != nil {
		if err := b.file.Prove(offset, int64(s.size)); err != nil {
			return err
		}
		return s.pread(b.fd, b.file.Offset()+offset)
	}
	if c, ok := b.Blob.(cachedReader); ok {
		at, i := offset, 0
		for ; i < len(s.pieces); i++ {
			p := piece(&s.pieces[i])
			if !c.ReadCached(p, at) {
				break
			}
			at += int64(len(p))
		}
		if i == len(s.pieces) {
			return nil
		}
	}
	return fs.fillLater(w, b, s, offset)
}

// aside is a buffer for a read that has to be waited for.
type aside struct {
	data []byte
	err  error
	done chan struct{}
}

// maxAsides bounds the memory that such reads take, in buffers of maxIO bytes.
const maxAsides = 128

// fillLater reads into a buffer of our own and copies when all of it is there. A
// store that takes longer than the limit is left alone with it.
func (fs *FS) fillLater(w waiter, b *openBlob, s *scatter, offset int64) error {
	w.Blocks()
	t := time.NewTimer(fs.wait)
	defer t.Stop()
	select {
	case fs.asides <- struct{}{}:
	case <-w.Context().Done():
		return errGone
	case <-t.C:
		return errStalled
	}
	if !fs.blobs.again(b) { // it is ours: this counts the reader below
		<-fs.asides
		return castore.ErrNotFound
	}
	buf := fs.buffers.Get().(*[]byte)
	a := &aside{data: (*buf)[:min(s.size, maxIO)], done: make(chan struct{})}
	finish := func() {
		fs.buffers.Put(buf)
		<-fs.asides
	}
	go func() {
		defer fs.blobs.release(b)
		n, err := b.ReadAt(a.data, offset)
		if n < len(a.data) {
			if err == nil || errors.Is(err, io.EOF) {
				err = errShort
			}
			a.err = err
		}
		close(a.done)
	}()
	select {
	case <-a.done:
		defer finish()
		if a.err == nil {
			s.write(a.data)
		}
		return a.err
	case <-w.Context().Done():
		go func() { <-a.done; finish() }()
		return errGone
	case <-t.C:
		go func() { <-a.done; finish() }()
		return errStalled
	}
}
