package ingest

import (
	"context"
	"sync/atomic"

	"storeboot/virtiofsd/castore"
)

const (
	// chunkSize is how much of a file is read at once, in bytes. Most files
	// are one chunk.
	chunkSize = 128 << 10
	// maxChunks bounds the memory for contents.
	maxChunks = 64
)

// pipe connects the goroutines of one Path call. Whoever cannot go on waits for
// the end of ctx too.
//
// Nobody waits in a circle: chunks and files are handed out in the order of the
// tree, and the oldest file never waits for a younger one.
type pipe struct {
	ctx    context.Context
	events chan event
	files  chan *file
	free   chan *chunk
	made   int // chunks; of the walker alone
}

func newPipe(ctx context.Context) *pipe {
	return &pipe{
		ctx:    ctx,
		events: make(chan event, 4*maxChunks),
		files:  make(chan *file, maxChunks),
		free:   make(chan *chunk, maxChunks),
	}
}

type eventKind uint8

const (
	beginDirectory eventKind = iota
	endDirectory
	symlink
	regular
	data // of the last regular
)

// event is one step through the tree, in NAR order.
type event struct {
	kind   eventKind
	name   string // of a node; empty at the root
	target string // of a symlink
	file   *file  // of regular
	chunk  *chunk // of data
}

// file is a regular file on its way into the store.
type file struct {
	size       uint64
	executable bool
	// content is nil if the file is empty.
	content chan *chunk
	// done is closed when digest is set.
	done   chan struct{}
	digest castore.Digest
}

// chunk is a part of a file, used by two readers.
type chunk struct {
	buf   []byte
	users atomic.Int32
	pipe  *pipe
}

// newFile makes a file whose contents are to follow in chunks.
func newFile(size uint64, executable bool) *file {
	f := &file{size: size, executable: executable, done: make(chan struct{})}
	if size > 0 {
		chunks := (size-1)/chunkSize + 1
		f.content = make(chan *chunk, min(chunks, maxChunks))
	}
	return f
}

// chunk waits for a chunk that nobody uses.
func (p *pipe) chunk() (*chunk, error) {
	select {
	case c := <-p.free:
		return c, nil
	default:
	}
	if p.made < maxChunks {
		p.made++
		return &chunk{buf: make([]byte, chunkSize), pipe: p}, nil
	}
	select {
	case c := <-p.free:
		return c, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

// release says that one of the two users is done.
func (c *chunk) release() {
	if c.users.Add(-1) == 0 {
		c.buf = c.buf[:cap(c.buf)]
		c.pipe.free <- c // has room for all
	}
}

// send sends x unless ctx ends.
func send[T any](ctx context.Context, to chan<- T, x T) error {
	select {
	case to <- x:
		return nil
	default:
	}
	select {
	case to <- x:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// receive receives unless ctx ends; ok is false at the end of the channel.
func receive[T any](ctx context.Context, from <-chan T) (x T, ok bool, err error) {
	select {
	case x, ok = <-from:
		return x, ok, nil
	default:
	}
	select {
	case x, ok = <-from:
		return x, ok, nil
	case <-ctx.Done():
		return x, false, ctx.Err()
	}
}
