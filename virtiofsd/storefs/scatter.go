package storefs

import (
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"
)

// scatter is where an answer goes: pieces of memory one after another, which are
// guest memory or a host's buffer. It is used again from request to request, so
// that none allocates.
type scatter struct {
	pieces []unix.Iovec
	size   int
}

// maxPieces is UIO_MAXIOV, the most buffers of one preadv.
const maxPieces = 1024

func (s *scatter) reset() { s.pieces, s.size = s.pieces[:0], 0 }

func (s *scatter) add(b []byte) {
	if len(b) == 0 {
		return
	}
	s.size += len(b)
	s.pieces = append(s.pieces, unix.Iovec{Base: &b[0], Len: uint64(len(b))})
}

// from adds what of bufs is left behind the first skip bytes, up to size bytes.
func (s *scatter) from(bufs [][]byte, skip, size int) {
	for _, b := range bufs {
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		b = b[skip:]
		skip = 0
		if len(b) >= size {
			s.add(b[:size])
			return
		}
		s.add(b)
		size -= len(b)
	}
}

func piece(v *unix.Iovec) []byte { return unsafe.Slice(v.Base, v.Len) }

// write copies b to the begin of the pieces and returns how much fits.
func (s *scatter) write(b []byte) int {
	n := 0
	for i := range s.pieces {
		if n == len(b) {
			break
		}
		n += copy(piece(&s.pieces[i]), b[n:])
	}
	return n
}

// pread fills the pieces from a file, whose contents go there without a copy in
// between. Less than all is io.ErrUnexpectedEOF. It consumes the pieces.
func (s *scatter) pread(fd int, offset int64) error {
	for rest := s.pieces; len(rest) > 0; {
		n, _, errno := unix.Syscall6(unix.SYS_PREADV, uintptr(fd), uintptr(unsafe.Pointer(&rest[0])), uintptr(min(len(rest), maxPieces)), uintptr(offset), uintptr(offset>>32), 0)
		switch {
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return errno
		case n == 0:
			return errShort
		}
		offset += int64(n)
		for len(rest) > 0 && uint64(n) >= rest[0].Len {
			n -= uintptr(rest[0].Len)
			rest = rest[1:]
		}
		if n > 0 {
			rest[0].Base = (*byte)(unsafe.Add(unsafe.Pointer(rest[0].Base), n))
			rest[0].Len -= uint64(n)
		}
	}
	return nil
}

// errShort means that a blob is shorter than its node says, which is an error of
// the store, not an end of file.
var errShort = errors.New("the blob is shorter than what refers to it says")
