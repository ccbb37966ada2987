package storefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/vhostuser"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// tree is what a directory should hold: contents of files by path; a path that
// ends in a slash is a directory, "-> x" as contents makes a symlink, a path
// that begins with "*" is executable.
type tree map[string]string

// world is a store and a guest that has mounted it.
type world struct {
	t       testing.TB
	store   Store
	fs      *FS
	fuse    *vt.Fuse
	front   *vt.FrontEnd
	session *Session

	mu      sync.Mutex
	mounts  int
	reports []*bootproto.Report
}

func memoryStore() Store {
	return Store{castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory()}
}

func newWorld(t testing.TB, store Store) *world { t.Helper(); return newWorldWith(t, store, Options{}) }

func newWorldWith(t testing.TB, store Store, o Options) *world {
	t.Helper()
	w := &world{t: t, store: store}
	fs := New(store, o)
	t.Cleanup(fs.Close)
	return w.mount(fs)
}

// mount is a guest that mounts fs.
func (w *world) mount(fs *FS) *world {
	w.t.Helper()
	t := w.t
	w.fs = fs
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	w.session = w.fs.NewSession(Events{
		Mounted: func() { w.mu.Lock(); w.mounts++; w.mu.Unlock() },
		Report:  func(r *bootproto.Report) { w.mu.Lock(); w.reports = append(w.reports, r); w.mu.Unlock() },
	}, log)
	backend := vhostuser.NewBackend(unixConn(t, fds[0]), w.session.Device(3), log)
	go func() { done <- backend.Serve(ctx) }()
	w.front, err = vt.New(unixConn(t, fds[1]), 32<<20)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.front.Close()
		if err := <-done; err != nil {
			t.Errorf("the connection ended with %v", err)
		}
		cancel()
	})
	const features = vt.FeatureIndirect | vt.FeatureEventIdx | vt.FeatureProtocol | vt.FeatureVersion1
	if _, err := w.front.Negotiate(features); err != nil {
		t.Fatal(err)
	}
	if err := w.front.ShareMemory(); err != nil {
		t.Fatal(err)
	}
	q, err := w.front.NewQueue(1, 1024, features)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Close)
	w.fuse = vt.NewFuse(q)
	w.fuse.Pages = true
	if _, err := w.fuse.Init(); err != nil {
		t.Fatal(err)
	}
	return w
}

func unixConn(t testing.TB, fd int) *net.UnixConn {
	t.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return c.(*net.UnixConn)
}

// add stores a tree under a store path named name, and returns that.
func (w *world) add(name string, files tree) string {
	w.t.Helper()
	return w.addNode(name, w.put(files, ""))
}

func (w *world) addNode(name string, n castore.Node) string {
	w.t.Helper()
	p, err := storepath.FromNARHash(name, [32]byte(n.Digest))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.PathInfos.Put(context.Background(), &pathinfo.PathInfo{StorePath: p, Node: n}); err != nil {
		w.t.Fatal(err)
	}
	return p.String()
}

// put stores what files have below prefix and returns its node.
func (w *world) put(files tree, prefix string) castore.Node {
	w.t.Helper()
	ctx := context.Background()
	putter, err := w.store.Directories.Put(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	var build func(prefix string) castore.Node
	build = func(prefix string) castore.Node {
		var entries []castore.Entry
		seen := map[string]bool{}
		for p, text := range files {
			rest, ok := strings.CutPrefix(p, prefix)
			if !ok || rest == "" {
				continue
			}
			name, _, isDir := strings.Cut(rest, "/")
			if seen[name] {
				continue
			}
			seen[name] = true
			node := castore.Node{}
			if isDir {
				node = build(prefix + name + "/")
			} else if target, isLink := strings.CutPrefix(text, "-> "); isLink {
				node = castore.Node{Kind: castore.KindSymlink, Target: target}
			} else {
				node = w.putFile(text, strings.HasPrefix(name, "*"))
			}
			entries = append(entries, castore.Entry{Name: name, Node: node})
		}
		d, err := castore.NewDirectory(entries)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err := putter.Put(d); err != nil {
			w.t.Fatal(err)
		}
		return d.Node()
	}
	n := build(prefix)
	if _, err := putter.Close(); err != nil {
		w.t.Fatal(err)
	}
	return n
}

func (w *world) putFile(text string, executable bool) castore.Node {
	w.t.Helper()
	b, err := w.store.Blobs.Create(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := b.Write([]byte(text)); err != nil {
		w.t.Fatal(err)
	}
	d, err := b.Close()
	if err != nil {
		w.t.Fatal(err)
	}
	if err := w.store.Blobs.Flush(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	return castore.Node{Kind: castore.KindFile, Executable: executable, Size: uint64(len(text)), Digest: d}
}

func decode[T any](t testing.TB, b []byte) T {
	t.Helper()
	var v T
	if uintptr(len(b)) < unsafe.Sizeof(v) {
		t.Fatalf("answer of %d bytes, want %d", len(b), unsafe.Sizeof(v))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&v)), unsafe.Sizeof(v)), b)
	return v
}

func (w *world) lookup(parent uint64, name string) (fuse.EntryOut, error) {
	w.t.Helper()
	b, err := w.fuse.Call(vt.FuseLookup, parent, append([]byte(name), 0), 128)
	if err != nil {
		return fuse.EntryOut{}, err
	}
	return decode[fuse.EntryOut](w.t, b), nil
}

// find looks a path up from the root on, and fails if it is not there.
func (w *world) find(p string) fuse.EntryOut {
	w.t.Helper()
	e := fuse.EntryOut{NodeId: rootID}
	for _, name := range strings.Split(p, "/") {
		var err error
		if e, err = w.lookup(e.NodeId, name); err != nil || e.NodeId == 0 {
			w.t.Fatalf("%s: %q: inode %d: %v", p, name, e.NodeId, err)
		}
	}
	return e
}

func readIn(offset uint64, size int) []byte {
	b := make([]byte, 40)
	binary.LittleEndian.PutUint64(b[8:], offset)
	binary.LittleEndian.PutUint32(b[16:], uint32(size))
	return b
}

// readAll reads a file in pieces of size.
func (w *world) readAll(node uint64, size int) string {
	w.t.Helper()
	var all []byte
	for {
		b, err := w.fuse.Call(vt.FuseRead, node, readIn(uint64(len(all)), size), size)
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, b...)
		if len(b) < size {
			return string(all)
		}
	}
}

// list reads a directory with buffers of size, and holds that each inode that it
// tells of is the one that LOOKUP finds.
func (w *world) list(node uint64, size int) map[string]fuse.EntryOut {
	w.t.Helper()
	out := map[string]fuse.EntryOut{}
	for offset := uint64(0); ; {
		b, err := w.fuse.Call(vt.FuseReaddirplus, node, readIn(offset, size), size)
		if err != nil {
			w.t.Fatal(err)
		}
		if len(b) == 0 {
			break
		}
		entries, outs, err := fuse.ParseDirLookupEntries(bytes.Clone(b))
		if err != nil {
			w.t.Fatal(err)
		}
		for i, e := range entries {
			if _, twice := out[e.Name]; twice {
				w.t.Fatalf("%q is listed twice", e.Name)
			}
			out[e.Name] = outs[i]
			offset = e.Off
		}
	}
	for _, dot := range []string{".", ".."} {
		if e, ok := out[dot]; !ok || e.NodeId != 0 {
			w.t.Errorf("%q: %v, inode %d", dot, ok, e.NodeId)
		}
		delete(out, dot)
	}
	return out
}

// walk reads a whole tree as a guest would, by listings alone.
func (w *world) walk(node uint64, prefix string, size int) tree {
	w.t.Helper()
	out := tree{}
	entries := w.list(node, size)
	if len(entries) == 0 {
		out[prefix] = ""
	}
	for name, e := range entries {
		switch e.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			for p, text := range w.walk(e.NodeId, prefix+name+"/", size) {
				out[p] = text
			}
		case syscall.S_IFLNK:
			b, err := w.fuse.Call(vt.FuseReadlink, e.NodeId, nil, 4096)
			if err != nil {
				w.t.Fatal(err)
			}
			out[prefix+name] = "-> " + string(b)
		default:
			if exec := e.Mode&0o111 != 0; exec != strings.HasPrefix(name, "*") {
				w.t.Errorf("%s: mode %o", name, e.Mode)
			}
			out[prefix+name] = w.readAll(e.NodeId, 8192)
		}
	}
	return out
}
