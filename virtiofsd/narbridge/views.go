package narbridge

import (
	"container/list"
	"context"
	"io"
	"sync"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge/narsection"
)

const (
	// maxViews and maxViewDirectories are how many views, and directories of all
	// views, are kept: 20 MiB.
	maxViews           = 1024
	maxViewDirectories = 1 << 18
)

// views keeps the views of trees that were asked for last, so that a client that
// asks for one range after the other has them measured once.
type views struct {
	mu          sync.Mutex
	order       *list.List // of keptView, the last used first
	byNode      map[castore.Node]*list.Element
	directories int
}

type keptView struct {
	node castore.Node
	view *narsection.View
}

func newViews() *views {
	return &views{order: list.New(), byNode: map[castore.Node]*list.Element{}}
}

func (v *views) get(n castore.Node) (*narsection.View, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	e, ok := v.byNode[n]
	if !ok {
		return nil, false
	}
	v.order.MoveToFront(e)
	return e.Value.(keptView).view, true
}

func (v *views) put(n castore.Node, view *narsection.View) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.byNode[n]; ok || view.Directories() > maxViewDirectories/2 {
		return
	}
	v.byNode[n] = v.order.PushFront(keptView{n, view})
	v.directories += view.Directories()
	for len(v.byNode) > maxViews || v.directories > maxViewDirectories {
		last := v.order.Back()
		old := v.order.Remove(last).(keptView)
		delete(v.byNode, old.node)
		v.directories -= old.view.Directories()
	}
}

// view measures the NAR of a tree.
func (s *Server) view(ctx context.Context, n castore.Node) (*narsection.View, error) {
	if v, ok := s.views.get(n); ok {
		return v, nil
	}
	v, err := narsection.New(ctx, n, s.store.Blobs, s.store.Directories)
	if err != nil {
		return nil, err
	}
	s.views.put(n, v)
	return v, nil
}

// narFile is a NAR as http.ServeContent wants it. err is the first error of the
// store or the connection.
type narFile struct {
	ctx  context.Context // of the request
	view *narsection.View
	off  int64
	err  error
}

func (f *narFile) size() int64 { return int64(f.view.Size()) }

// Seek implements io.Seeker.
func (f *narFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.off
	case io.SeekEnd:
		offset += f.size()
	}
	f.off = offset
	return offset, nil
}

// Read implements io.Reader, for the parts of an answer with several.
func (f *narFile) Read(p []byte) (int, error) {
	n := min(int64(len(p)), f.size()-f.off)
	if n <= 0 {
		return 0, io.EOF
	}
	out := &filler{p: p}
	if f.err = f.view.WriteRange(f.ctx, out, uint64(f.off), uint64(n)); f.err != nil {
		return 0, f.err
	}
	f.off += n
	return int(n), nil
}

// copyTo writes what is left of l, whose reader f is.
func (f *narFile) copyTo(w *response, l *io.LimitedReader) (int64, error) {
	n := max(min(l.N, f.size()-f.off), 0)
	before := w.sent
	f.err = f.view.WriteRange(f.ctx, w, uint64(f.off), uint64(n))
	sent := w.sent - before
	f.off += sent
	l.N -= sent
	return sent, f.err
}

// filler is a writer to a slice.
type filler struct {
	p []byte
	n int
}

func (f *filler) Write(p []byte) (int, error) {
	n := copy(f.p[f.n:], p)
	f.n += n
	return n, nil
}
