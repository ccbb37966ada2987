package grpcstore

import (
	"context"
	"fmt"
	"io"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

// directories is the directory service. The one within checks what it gets and
// what is put; only Closure is done with fewer calls than it would need.
type directories struct {
	castore.DirectoryService
	table *directoryTable
}

// directoryTable is a [castore.DirectoryTable].
type directoryTable struct {
	conn   *Conn
	rpc    castorev1.DirectoryServiceClient
	closer func() error
}

func (t *directoryTable) Close() error { return t.closer() }

// open asks for a directory, or for all of a tree.
func (t *directoryTable) open(ctx context.Context, d castore.Digest, recursive bool) (*stream, error) {
	return newStream(ctx, t.conn, func(ctx context.Context) (grpc.ClientStream, error) {
		return t.rpc.Get(ctx, &castorev1.GetDirectoryRequest{
			ByWhat:    &castorev1.GetDirectoryRequest_Digest{Digest: d[:]},
			Recursive: recursive,
		})
	})
}

// Get returns what the server sends for d; the caller checks it.
func (t *directoryTable) Get(ctx context.Context, d castore.Digest) ([]byte, error) {
	b, err := t.get(ctx, d)
	switch {
	case err == nil:
		return b, nil
	case err == io.EOF || status.Code(err) == codes.NotFound:
		return nil, castore.ErrNotFound
	}
	return nil, t.conn.failed(ctx, "read it", err)
}

func (t *directoryTable) get(ctx context.Context, d castore.Digest) ([]byte, error) {
	s, err := t.open(ctx, d, false)
	if err != nil {
		return nil, err
	}
	defer s.end()
	var b, more wire.Encoded
	if err := s.recv(&b); err != nil {
		return nil, err
	}
	if err := s.recv(&more); err == nil {
		return nil, fmt.Errorf("it sent more than one directory")
	} else if err != io.EOF {
		return nil, err
	}
	return b, nil
}

// Put uploads a tree, which has been checked: children first, the root last.
func (t *directoryTable) Put(ctx context.Context, rows []castore.DirectoryRow) error {
	root := rows[len(rows)-1].Digest
	if err := t.put(ctx, rows, root); err != nil {
		return t.conn.failed(ctx, fmt.Sprintf("store the tree %s", root), err)
	}
	return nil
}

func (t *directoryTable) put(ctx context.Context, rows []castore.DirectoryRow, root castore.Digest) error {
	s, err := newStream(ctx, t.conn, func(ctx context.Context) (grpc.ClientStream, error) { return t.rpc.Put(ctx) })
	if err != nil {
		return err
	}
	defer s.end()
	for _, r := range rows {
		b := wire.Encoded(r.Encoded)
		if err := s.send(&b); err != nil {
			if status.Code(err) == codes.ResourceExhausted {
				return fmt.Errorf("it does not take the directory %s of %d bytes: %w", r.Digest, len(b), err)
			}
			return err
		}
	}
	if err := s.bounded(s.CloseSend); err != nil {
		return err
	}
	var reply castorev1.PutDirectoryResponse
	if err := s.recvOnly(&reply); err != nil {
		return err
	}
	if string(reply.RootDigest) != string(root[:]) {
		return fmt.Errorf("it stored %x and not what was sent", reply.RootDigest)
	}
	return nil
}

// Closure implements [castore.DirectoryService] with one call. Every directory
// has to be one that another, which came before, refers to.
func (s *directories) Closure(ctx context.Context, root castore.Digest) iter.Seq2[*castore.Directory, error] {
	return func(yield func(*castore.Directory, error) bool) {
		w := closureWalk{root: root, want: map[castore.Digest]bool{root: true}}
		if err := s.closure(ctx, &w, yield); err != nil {
			yield(nil, err)
		}
	}
}

func (s *directories) closure(ctx context.Context, w *closureWalk, yield func(*castore.Directory, error) bool) error {
	what := fmt.Sprintf("get the tree %s", w.root)
	if w.root != castore.EmptyBlob {
		st, err := s.table.open(ctx, w.root, true)
		if err != nil {
			return s.table.conn.failed(ctx, what, err)
		}
		defer st.end()
		for {
			var b wire.Encoded
			err := st.recv(&b)
			if err == io.EOF || status.Code(err) == codes.NotFound && w.seen == 0 {
				break
			}
			if err != nil {
				return s.table.conn.failed(ctx, what, err)
			}
			dir, err := w.take(b)
			if err != nil {
				return s.table.conn.failed(ctx, what, err)
			}
			if !yield(dir, nil) {
				return nil
			}
		}
	}
	// The empty directory is everywhere, whether the server has a row for it
	// or not.
	if w.want[castore.EmptyBlob] {
		dir, err := w.take(nil)
		if err != nil {
			return err
		}
		if !yield(dir, nil) {
			return nil
		}
	}
	for d, missing := range w.want {
		if missing {
			return fmt.Errorf("%s: directory %s: %w", what, d, castore.ErrNotFound)
		}
	}
	return nil
}

// closureWalk is what is known of a tree on its way.
type closureWalk struct {
	root castore.Digest
	want map[castore.Digest]bool // of those referred to, whether it is still to come
	seen int
}

// take checks the next directory.
func (w *closureWalk) take(b []byte) (*castore.Directory, error) {
	dir, err := castore.ParseDirectory(b)
	if err != nil {
		return nil, err
	}
	if !w.want[dir.Digest()] {
		return nil, fmt.Errorf("it sent the directory %s, which is not of this tree or came before: its store is damaged, or it is not to be trusted", dir.Digest())
	}
	w.want[dir.Digest()] = false
	w.seen++
	for _, e := range dir.Entries() {
		if _, known := w.want[e.Digest]; e.Kind == castore.KindDirectory && !known {
			w.want[e.Digest] = true
		}
	}
	return dir, nil
}
