package storefs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/fileblobs"
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

func newWorld(t testing.TB, store Store) *world {
	t.Helper()
	w := &world{t: t, store: store}
	w.fs = New(store, slog.New(slog.DiscardHandler))
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.DiscardHandler)
	w.session = w.fs.NewSession(ctx, 3, Events{
		Mounted: func() { w.mu.Lock(); w.mounts++; w.mu.Unlock() },
		Report:  func(r *bootproto.Report) { w.mu.Lock(); w.reports = append(w.reports, r); w.mu.Unlock() },
	}, log)
	backend := vhostuser.NewBackend(unixConn(t, fds[0]), 3, w.session.Handle, log)
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
		w.fs.Close()
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

func sampleTree() tree {
	files := tree{
		"bin/*prog": strings.Repeat("program ", 5000), "bin/link": "-> ../lib/x", "lib/x": "one", "lib/same": "one",
		"empty": "", "share/empty-dir/": "", "share/a b/ü\xff": "odd names", "deep/1/2/3/4/5/6/7/8/9": "deep",
	}
	for i := range 500 {
		files[fmt.Sprintf("many/%03d-%s", i, strings.Repeat("n", i%200))] = fmt.Sprint(i)
	}
	return files
}

// TestWalk holds that a guest finds all that is stored, whatever the sizes of
// its buffers.
func TestWalk(t *testing.T) {
	w := newWorld(t, memoryStore())
	want := sampleTree()
	p := w.add("sample", want)
	file := w.addNode("file", w.putFile("a store path that is a file", false))
	link := w.addNode("link", castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/x"})
	for _, size := range []int{600, 4096, 32 << 10} {
		got := w.walk(w.find(p).NodeId, "", size)
		for name, text := range want {
			if got[name] != text {
				t.Errorf("size %d: %s: %.30q, want %.30q", size, name, got[name], text)
			}
		}
		if len(got) != len(want) {
			t.Errorf("size %d: %d entries, want %d", size, len(got), len(want))
		}
	}
	root := w.list(rootID, 4096)
	if len(root) != 3 || root[file].Mode != syscall.S_IFREG|0o444 || root[link].Mode != syscall.S_IFLNK|0o777 || root[p].Mode != syscall.S_IFDIR|0o555 {
		t.Errorf("root: %v", root)
	}
	// READDIR, of kernels that do without the PLUS.
	b, err := w.fuse.Call(vt.FuseReaddir, rootID, readIn(0, 4096), 4096)
	if err != nil {
		t.Fatal(err)
	}
	entries, err := fuse.ParseDirEntries(bytes.Clone(b))
	if err != nil || len(entries) != 5 {
		t.Errorf("READDIR: %v, %v", entries, err)
	}
}

// TestRead reads at random places, from plain files and from memory.
func TestRead(t *testing.T) {
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	files := memoryStore()
	files.Blobs = blobs
	for name, store := range map[string]Store{"memory": memoryStore(), "files": files} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, store)
			data := make([]byte, 3<<20+123)
			rand.NewChaCha8([32]byte{1}).Read(data)
			node := w.find(w.addNode("data", w.putFile(string(data), false))).NodeId
			check := func(off, size int) {
				t.Helper()
				got, err := w.fuse.Call(vt.FuseRead, node, readIn(uint64(off), size), size)
				want := data[min(off, len(data)):min(off+size, len(data))]
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("read %d at %d: %d bytes, want %d: %v", size, off, len(got), len(want), err)
				}
			}
			for _, off := range []int{0, 1, 4095, len(data) - 1, len(data), len(data) + 1, 1 << 40} {
				for _, size := range []int{0, 1, 4096, 4097, 1 << 20} {
					check(off, size)
				}
			}
			r := rand.New(rand.NewPCG(1, 2))
			for range 200 {
				check(r.IntN(len(data)), r.IntN(1<<20))
			}
			w.fuse.Pages = false // one descriptor: the answer goes there in place
			check(100, 1<<20)
		})
	}
}

// TestCaches holds what makes a guest ask only once.
func TestCaches(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"a": "same", "b": "same", "*c": "same", "l1": "-> t", "l2": "-> t", "d1/f": "1", "d2/f": "1"})
	dir := w.find(p)
	if dir.EntryTimeout() < forever || dir.AttrTimeout() < forever {
		t.Errorf("a store path is valid for %v and %v", dir.EntryTimeout(), dir.AttrTimeout())
	}
	id := func(name string) uint64 { return w.find(p + "/" + name).NodeId }
	if id("a") != id("b") || id("l1") != id("l2") {
		t.Error("equal files do not share an inode")
	}
	if id("a") == id("*c") {
		t.Error("an executable shares an inode with a plain file")
	}
	if id("d1") == id("d2") || id("d1") != id("d1") {
		t.Error("a directory has its inode in two places, or changes it")
	}
	e, err := w.lookup(dir.NodeId, "missing")
	if err != nil || e.NodeId != 0 || e.EntryTimeout() < forever {
		t.Errorf("a name that does not exist: %v, inode %d, valid for %v", err, e.NodeId, e.EntryTimeout())
	}
	for _, name := range []string{"missing", "00000000000000000000000000000000-none", p + "x"} {
		e, err := w.lookup(rootID, name)
		if err != nil || e.NodeId != 0 || e.EntryTimeout() > rootTTL {
			t.Errorf("%s: %v, inode %d, valid for %v", name, err, e.NodeId, e.EntryTimeout())
		}
	}
	for name, op := range map[string]uint32{"OPEN": vt.FuseOpen, "OPENDIR": vt.FuseOpendir, "GETXATTR": vt.FuseGetxattr} {
		if _, err := w.fuse.Call(op, id("a"), make([]byte, 16), 64); !errors.Is(err, syscall.ENOSYS) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.fuse.Call(vt.FuseStatfs, rootID, nil, 80); err != nil {
		t.Errorf("STATFS: %v", err)
	}
}

// TestAttributes holds those of Nix's store.
func TestAttributes(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"f": strings.Repeat("x", 5000), "*e": "", "l": "-> target", "d/": ""})
	for name, want := range map[string]fuse.Attr{
		"f":  {Mode: syscall.S_IFREG | 0o444, Size: 5000, Blocks: 16},
		"*e": {Mode: syscall.S_IFREG | 0o555},
		"l":  {Mode: syscall.S_IFLNK | 0o777, Size: 6, Blocks: 8},
		"d":  {Mode: syscall.S_IFDIR | 0o555, Size: 4096, Blocks: 8},
	} {
		e := w.find(path.Join(p, name))
		b, err := w.fuse.Call(vt.FuseGetattr, e.NodeId, make([]byte, 16), 104)
		if err != nil {
			t.Fatal(err)
		}
		got := decode[fuse.AttrOut](t, b)
		if got.Attr != e.Attr {
			t.Errorf("%s: GETATTR %+v, LOOKUP %+v", name, got.Attr, e.Attr)
		}
		want.Ino, want.Nlink, want.Blksize = e.NodeId, 1, 4096
		want.Atime, want.Mtime, want.Ctime = 1, 1, 1
		if got.Attr != want || got.Timeout() < forever {
			t.Errorf("%s: %+v, want %+v", name, got.Attr, want)
		}
	}
}

// TestRootGrows holds that a guest sees what is added while it runs, and that
// the root's time says so.
func TestRootGrows(t *testing.T) {
	w := newWorld(t, memoryStore())
	first := w.addNode("first", w.putFile("1", false))
	if got := w.list(rootID, 4096); len(got) != 1 || got[first].NodeId == 0 {
		t.Fatalf("root: %v", got)
	}
	rootTime := func() uint64 {
		b, err := w.fuse.Call(vt.FuseGetattr, rootID, make([]byte, 16), 104)
		if err != nil {
			t.Fatal(err)
		}
		return decode[fuse.AttrOut](t, b).Mtime
	}
	before := rootTime()
	second := w.addNode("second", w.putFile("2", false))
	if w.find(second).NodeId == 0 { // by name: at once
		t.Error("not found")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if got := w.list(rootID, 4096); len(got) == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a new store path is not listed")
		}
	}
	if rootTime() == before {
		t.Error("the root's time does not change")
	}
}

// TestForget holds that inodes go when the guest forgets them, and not before.
func TestForget(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", sampleTree())
	inodes := w.session.current.Load().mount.inodes
	dir := w.find(p)
	if n := inodes.size(); n != 1 {
		t.Fatalf("%d inodes", n)
	}
	many := w.find(p + "/many").NodeId
	listed := w.list(many, 4096)
	if n := inodes.size(); n < 500 {
		t.Fatalf("%d inodes", n)
	}
	for _, e := range listed {
		if err := w.fuse.Forget(e.NodeId, 1); err != nil {
			t.Fatal(err)
		}
	}
	if n := inodes.size(); n != 2 {
		t.Errorf("%d inodes are left, want 2", n)
	}
	w.find(p) // a third time
	if err := w.fuse.Forget(dir.NodeId, 2); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lookup(dir.NodeId, "bin"); err != nil {
		t.Errorf("an inode is forgotten too early: %v", err)
	}
	if err := w.fuse.Forget(dir.NodeId, 1<<60); err != nil {
		t.Fatal(err)
	}
	if _, err := w.lookup(dir.NodeId, "bin"); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a forgotten inode: %v", err)
	}
}

// TestSecondInit holds that a guest that boots again on the same connection
// begins anew.
func TestSecondInit(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"f": "text"})
	f := w.find(p + "/f").NodeId
	if _, err := w.fuse.Init(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	if w.mounts != 2 {
		t.Errorf("%d mounts", w.mounts)
	}
	w.mu.Unlock()
	if _, err := w.fuse.Call(vt.FuseGetattr, f, make([]byte, 16), 104); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("an inode of the first mount: %v", err)
	}
	if got := w.readAll(w.find(p+"/f").NodeId, 100); got != "text" {
		t.Errorf("read %q", got)
	}
}

// TestReport sends exit reports.
func TestReport(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.find(w.add("x", tree{"f": "x"})).NodeId
	ioctl := func(node uint64, cmd uint32, data string) error {
		b := make([]byte, 32)
		binary.LittleEndian.PutUint32(b[12:], cmd)
		binary.LittleEndian.PutUint32(b[24:], uint32(len(data)))
		_, err := w.fuse.Call(vt.FuseIoctl, node, append(b, data...), 16)
		return err
	}
	const report = `{"version":1,"outcome":"exited","status":7}`
	cmd := bootproto.IoctlCommand(len(report))
	if err := ioctl(rootID, cmd, report); err != nil {
		t.Fatal(err)
	}
	received := func() []*bootproto.Report {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Clone(w.reports)
	}
	if r := received(); len(r) != 1 || r[0].Status != 7 {
		t.Fatalf("reports: %v", r)
	}
	if err := ioctl(p, cmd, report); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("on another directory: %v", err)
	}
	if err := ioctl(rootID, 0x5401, ""); !errors.Is(err, syscall.ENOTTY) {
		t.Errorf("another ioctl: %v", err)
	}
	for _, bad := range []string{"", "{}", `{"version":1,"outcome":"exited","status":700}`, strings.Repeat("x", bootproto.MaxReport)} {
		if err := ioctl(rootID, bootproto.IoctlCommand(len(bad)), bad); !errors.Is(err, syscall.EINVAL) {
			t.Errorf("report %.20q: %v", bad, err)
		}
	}
	w.fuse.UID = 1000
	if err := ioctl(rootID, cmd, report); !errors.Is(err, syscall.EPERM) {
		t.Errorf("from a user: %v", err)
	}
	if r := received(); len(r) != 1 {
		t.Errorf("%d reports", len(r))
	}
}

// TestHostileRequests sends what no kernel sends.
func TestHostileRequests(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"f": "text", "l": "-> t"})
	dir, file, link := w.find(p).NodeId, w.find(p+"/f").NodeId, w.find(p+"/l").NodeId
	tests := []struct {
		name    string
		op      uint32
		node    uint64
		payload []byte
		room    int
		want    syscall.Errno
	}{
		{"inode 0", vt.FuseGetattr, 0, make([]byte, 16), 104, syscall.ESTALE},
		{"unknown inode", vt.FuseGetattr, 1 << 60, make([]byte, 16), 104, syscall.ESTALE},
		{"look-up in a file", vt.FuseLookup, file, []byte("x\x00"), 128, syscall.ENOTDIR},
		{"list a file", vt.FuseReaddirplus, file, readIn(0, 4096), 4096, syscall.ENOTDIR},
		{"read a directory", vt.FuseRead, dir, readIn(0, 4096), 4096, syscall.EISDIR},
		{"read the root", vt.FuseRead, rootID, readIn(0, 4096), 4096, syscall.ESTALE},
		{"read a symlink", vt.FuseRead, link, readIn(0, 4096), 4096, syscall.EINVAL},
		{"readlink of a file", vt.FuseReadlink, file, nil, 4096, syscall.EINVAL},
		{"read more than there is room", vt.FuseRead, file, readIn(0, 1<<31), 4096, syscall.EIO},
		{"answer without room", vt.FuseGetattr, file, make([]byte, 16), 8, syscall.EIO},
		{"write", vt.FuseWrite, file, make([]byte, 40+100<<10), 8, syscall.EROFS},
		{"unknown opcode", 4095, rootID, nil, 0, syscall.ENOSYS},
		{"short payload", vt.FuseRead, file, make([]byte, 3), 4096, syscall.EIO},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := w.fuse.Call(tt.op, tt.node, tt.payload, tt.room); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
	if got := w.readAll(file, 100); got != "text" {
		t.Errorf("afterwards: %q", got)
	}
	if got, err := w.fuse.Call(vt.FuseReaddirplus, dir, readIn(1<<63, 4096), 4096); err != nil || len(got) != 0 {
		t.Errorf("listing from beyond the end: %d bytes, %v", len(got), err)
	}
}

// TestBlobCache holds that the number of open blobs is bounded, and that one in
// use is not closed.
func TestBlobCache(t *testing.T) {
	ctx := context.Background()
	w := &world{t: t, store: memoryStore()}
	var nodes []castore.Node
	for i := range 10 {
		nodes = append(nodes, w.putFile(fmt.Sprint("file ", i), false))
	}
	c := newBlobCache(w.store.Blobs, 3)
	var held []*openBlob
	for _, n := range nodes[:5] {
		b, err := c.acquire(ctx, n.Digest)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, b)
	}
	if len(c.open) != 5 {
		t.Errorf("%d open, all in use", len(c.open))
	}
	for _, b := range held {
		c.release(b)
	}
	for range 3 {
		for _, n := range nodes {
			b, err := c.acquire(ctx, n.Digest)
			if err != nil {
				t.Fatal(err)
			}
			c.release(b)
		}
	}
	if len(c.open) != 3 || c.lru.Len() != 3 {
		t.Errorf("%d open", len(c.open))
	}
	c.close()
	if len(c.open) != 0 {
		t.Error("not closed")
	}
	if _, err := c.acquire(ctx, castore.Digest{1}); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("a missing blob: %v", err)
	}
}

func FuzzHandle(f *testing.F) {
	header := func(op uint32, node uint64, payload ...byte) []byte {
		b := make([]byte, 40)
		binary.LittleEndian.PutUint32(b[4:], op)
		binary.LittleEndian.PutUint64(b[16:], node)
		return append(b, payload...)
	}
	for _, op := range []uint32{vt.FuseGetattr, vt.FuseReadlink, vt.FuseStatfs, vt.FuseOpen, vt.FuseGetxattr, 38, 42} {
		f.Add(header(op, 2, make([]byte, 24)...), 4096)
	}
	f.Add(header(vt.FuseLookup, 1, 0x78, 0), 4096)
	f.Add(header(vt.FuseRead, 3, readIn(0, 4096)...), 4096)
	f.Add(header(vt.FuseReaddirplus, 2, readIn(0, 4096)...), 4096)
	f.Add(header(vt.FuseIoctl, 1, make([]byte, 40)...), 16)
	w := &world{t: f, store: memoryStore()}
	p := w.add("x", tree{"f": "text", "d/g": "more", "l": "-> t"})
	fs := New(w.store, slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, req []byte, room int) {
		s := fs.NewSession(context.Background(), 1, Events{}, slog.New(slog.DiscardHandler))
		initPayload := make([]byte, 64)
		initPayload[0], initPayload[4] = 7, 37
		out := make([]byte, min(max(room, 0), 1<<20))
		s.Handle(0, [][]byte{header(vt.FuseInit, 1, initPayload...)}, [][]byte{make([]byte, 16), make([]byte, 64)})
		s.Handle(0, [][]byte{header(vt.FuseLookup, 1, append([]byte(p), 0)...)}, [][]byte{make([]byte, 16), make([]byte, 128)})
		s.Handle(0, [][]byte{header(vt.FuseReaddirplus, 2, readIn(0, 4096)...)}, [][]byte{make([]byte, 16), make([]byte, 4096)})
		if n := s.Handle(0, slices.Collect(slices.Chunk(req, 50)), [][]byte{out[:len(out)/2], out[len(out)/2:]}); n < 0 || n > len(out) {
			t.Fatalf("%d bytes written of %d", n, len(out))
		}
	})
}

// BenchmarkRequest is the cost of one request through the ring, beside the same
// without the file system (vhostuser's own benchmark).
func BenchmarkRequest(b *testing.B) {
	w := newWorld(b, memoryStore())
	p := w.add("x", sampleTree())
	dir := w.find(p).NodeId
	many := w.find(p + "/many").NodeId
	data := w.find(w.addNode("data", w.putFile(strings.Repeat("x", 4<<20), false))).NodeId
	run := func(name string, op uint32, node uint64, payload []byte, room int) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.fuse.Call(op, node, payload, room); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("GETATTR", vt.FuseGetattr, dir, make([]byte, 16), 104)
	run("LOOKUP", vt.FuseLookup, dir, []byte("bin\x00"), 128)
	run("READDIRPLUS-4K", vt.FuseReaddirplus, many, readIn(0, 4096), 4096)
	run("READ-4K", vt.FuseRead, data, readIn(0, 4096), 4096)
	run("READ-1M", vt.FuseRead, data, readIn(0, 1<<20), 1<<20)
}
