package castore

import (
	"context"
	"errors"
	"io"
	"iter"
	"os"
)

// ErrNotFound is what Open, Get and Closure return, wrapped, for a digest that
// the service does not hold.
var ErrNotFound = errors.New("not in the store")

// BlobService holds blobs. All methods may be called by several goroutines at
// once. Storing what is there already succeeds and costs little.
type BlobService interface {
	// Has says whether the blob can be opened. The empty blob is always there.
	Has(ctx context.Context, d Digest) (bool, error)
	// Open opens a blob for reading, or returns ErrNotFound.
	Open(ctx context.Context, d Digest) (Blob, error)
	// Create begins a new blob. Its writer must be closed or aborted.
	Create(ctx context.Context) (BlobWriter, error)
	// Flush makes every blob that was closed before the call survive a power
	// loss. Whoever stores a reference to blobs calls it first.
	Flush(ctx context.Context) error
	// Close frees what the service holds. It does not flush.
	Close() error
}

// Blob is an open blob. ReadAt is safe for concurrent use.
type Blob interface {
	io.ReaderAt
	io.Closer
	Size() int64
}

// ErrDamaged is what reading a blob returns, wrapped, if what the store holds is
// not what the digest names.
var ErrDamaged = errors.New("the store is damaged: 'virtiofsd verify --remove' says which store paths need it and removes them, to be stored again")

// FileBlob is a [Blob] whose contents are Size bytes of a plain file, so that
// they can go from the page cache straight to where they are needed. The file
// may hold other blobs too. It is valid until the blob is closed, must not be
// changed, and is read with its offset given (pread), as others read it too.
type FileBlob interface {
	Blob
	File() *os.File
	// Offset is where in the file the contents begin, in bytes.
	Offset() int64
	// Prove returns ErrDamaged, wrapped, unless the n bytes of contents from
	// off on are what they were when they were stored. Whoever takes contents
	// from File calls it before; ReadAt does so by itself. What was proved once
	// costs next to nothing.
	Prove(off, n int64) error
}

// BlobWriter takes the contents of a blob.
type BlobWriter interface {
	io.Writer
	// Close ends the contents; from then on the blob can be opened under the
	// digest returned. It survives a power loss after [BlobService.Flush].
	Close() (Digest, error)
	// Abort drops what was written. After Close it does nothing.
	Abort()
}

// DirectoryService holds directories. All methods may be called by several
// goroutines at once.
type DirectoryService interface {
	// Get returns one directory, or ErrNotFound. The caller must not change it.
	Get(ctx context.Context, d Digest) (*Directory, error)
	// Closure yields the directory d and all below it, each once, each after
	// one that refers to it. It ends with an error if d (ErrNotFound) or one
	// below is missing.
	Closure(ctx context.Context, d Digest) iter.Seq2[*Directory, error]
	// Put begins an upload of directories, children before parents.
	Put(ctx context.Context) (DirectoryPutter, error)
	// Close frees what the service holds.
	Close() error
}

// DirectoryPutter takes the directories of one tree. A directory may only
// refer to directories put before it in the same upload; repeats are fine.
type DirectoryPutter interface {
	Put(d *Directory) (Digest, error)
	// Close checks that all that was put is one tree, whose root was put last,
	// stores it so that it survives a power loss, and returns the root's digest.
	Close() (Digest, error)
	// Abort stores nothing. After Close it does nothing.
	Abort()
}
