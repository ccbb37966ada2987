package storefs

import (
	"errors"
	"fmt"
	"io"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
)

// maxIOVec is UIO_MAXIOV, the most buffers of one preadv.
const maxIOVec = 1024

// blobRead is the answer to a READ: where the contents come from. go-fuse calls
// Readv with guest memory, so that they go there from the page cache at once.
type blobRead struct {
	cache  *blobCache
	blob   *openBlob
	offset int64
	size   int
}

func (r *blobRead) Size() int { return r.size }
func (r *blobRead) Done()     { r.cache.release(r.blob) }

// prove says whether what is about to be read is what the digest names, where
// the blob does not see to that by itself. size is what the node says.
func (r *blobRead) prove(size uint64) error {
	if uint64(r.blob.Size()) != size {
		return fmt.Errorf("it has %d bytes and not %d, as its directory says: %w", r.blob.Size(), size, castore.ErrDamaged)
	}
	if f, ok := r.blob.Blob.(castore.FileBlob); ok {
		return f.Prove(r.offset, int64(r.size))
	}
	return nil
}

// Bytes is for transports without scattered buffers.
func (r *blobRead) Bytes(buf []byte) ([]byte, fuse.Status) {
	n, status := r.Readv([][]byte{buf[:min(len(buf), r.size)]})
	return buf[:n], status
}

// Readv fills dst, which holds no more than Size bytes.
func (r *blobRead) Readv(dst [][]byte) (int, fuse.Status) {
	if f, ok := r.blob.Blob.(castore.FileBlob); ok {
		return readFile(int(f.File().Fd()), dst, f.Offset()+r.offset)
	}
	n := 0
	for _, b := range dst {
		k, err := r.blob.ReadAt(b, r.offset+int64(n))
		n += k
		if k < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return 0, fuse.EIO
		}
	}
	return n, fuse.OK
}

// readFile fills dst from a file. A blob that is shorter than its node says is
// an error of the store, not an end of file.
func readFile(fd int, dst [][]byte, offset int64) (int, fuse.Status) {
	done := 0
	for len(dst) > 0 {
		n, err := unix.Preadv(fd, dst[:min(len(dst), maxIOVec)], offset+int64(done))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil, n == 0:
			return 0, fuse.EIO
		}
		done += n
		for len(dst) > 0 && n >= len(dst[0]) {
			n -= len(dst[0])
			dst = dst[1:]
		}
		if n > 0 { // within a buffer; the caller's slices stay as they are
			dst = append([][]byte{dst[0][n:]}, dst[1:]...)
		}
	}
	return done, fuse.OK
}
