package grpcstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

var errWriterClosed = errors.New("write after close or abort")

// blobWriter sends a blob in frames. The call begins with the first full frame
// or with Close, so that small blobs cost one call of one message.
type blobWriter struct {
	s          *blobs
	ctx        context.Context
	durability string // one of package wire
	frame      []byte
	hash       *blake3.Hasher
	size       int64
	stream     *stream
	err        error // the first one
	done       bool
}

func (s *blobs) newWriter(ctx context.Context, durability string) *blobWriter {
	return &blobWriter{s: s, ctx: ctx, durability: durability, hash: blake3.New()}
}

func (w *blobWriter) Write(p []byte) (int, error) {
	if w.done {
		return 0, errWriterClosed
	}
	for sum := 0; ; {
		if w.err != nil {
			return sum, w.err
		}
		if len(p) == 0 {
			return sum, nil
		}
		n := min(len(p), wire.FrameSize-len(w.frame))
		if w.frame == nil && len(p) >= wire.FrameSize || w.stream != nil && w.frame == nil {
			w.frame = (*w.s.conn.frames.Get(wire.FrameSize))[:0]
		}
		w.frame = append(w.frame, p[:n]...)
		_, _ = w.hash.Write(p[:n]) // has no errors
		p = p[n:]
		sum += n
		w.size += int64(n)
		if len(w.frame) == wire.FrameSize {
			if err := w.send(); err != nil {
				w.err = w.failed(err)
			}
		}
	}
}

// send sends the frame.
func (w *blobWriter) send() error {
	if err := w.begin(); err != nil {
		return err
	}
	frame := w.frame
	w.frame = nil
	return w.stream.send(wire.NewChunk(&frame, w.s.conn.frames))
}

// begin begins the call if it has not begun.
func (w *blobWriter) begin() (err error) {
	if w.stream == nil {
		w.stream, err = newStream(w.ctx, w.s.conn, func(ctx context.Context) (grpc.ClientStream, error) {
			ctx = metadata.AppendToOutgoingContext(ctx, wire.DurabilityKey, w.durability)
			return w.s.rpc.Put(ctx)
		})
	}
	return err
}

func (w *blobWriter) failed(err error) error {
	return w.s.conn.failed(w.ctx, fmt.Sprintf("store a blob (at byte %d)", w.size), err)
}

// Close implements [castore.BlobWriter].
func (w *blobWriter) Close() (castore.Digest, error) {
	if w.done {
		return castore.Digest{}, errWriterClosed
	}
	defer w.Abort()
	if w.err != nil {
		return castore.Digest{}, w.err
	}
	md, err := w.finish()
	if err != nil {
		return castore.Digest{}, w.failed(err)
	}
	if err := w.s.noteStored(md); err != nil {
		return castore.Digest{}, err
	}
	return w.digest(), nil
}

// finish ends the contents, compares the server's digest with ours, and returns
// the metadata of the answer.
func (w *blobWriter) finish() (metadata.MD, error) {
	if len(w.frame) > 0 {
		if err := w.send(); err != nil {
			return nil, err
		}
	}
	if err := w.begin(); err != nil {
		return nil, err
	}
	if err := w.stream.bounded(w.stream.CloseSend); err != nil {
		return nil, err
	}
	var reply castorev1.PutBlobResponse
	if err := w.stream.recvOnly(&reply); err != nil {
		return nil, err
	}
	if d := w.digest(); string(reply.Digest) != string(d[:]) {
		return nil, fmt.Errorf("it stored %x and not what was sent, %s", reply.Digest, d)
	}
	return w.stream.header(), nil
}

func (w *blobWriter) digest() (d castore.Digest) {
	w.hash.Sum(d[:0])
	return d
}

// Abort implements [castore.BlobWriter]. The server drops a call that is broken
// off.
func (w *blobWriter) Abort() {
	w.done, w.frame = true, nil
	if w.stream != nil {
		w.stream.end()
	}
}
