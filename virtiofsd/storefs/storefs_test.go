package storefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/fileblobs"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

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

// TestForget holds that what a guest forgets it can still use, as the one that
// forgets may be another kernel than the one that knows.
func TestForget(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"d/f": "text"})
	f := w.find(p + "/d/f").NodeId
	for _, n := range []uint64{1, 1 << 60} {
		if err := w.fuse.Forget(f, n); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.readAll(f, 100); got != "text" {
		t.Errorf("read %q", got)
	}
}

// TestRestart holds that a daemon which starts anew goes on where the one before
// it was: without FUSE_INIT, with the same inode numbers, which it finds by
// itself.
func TestRestart(t *testing.T) {
	before := newWorld(t, memoryStore())
	p := before.add("x", sampleTree())
	file := before.addNode("file", before.putFile("a store path that is a file", true))
	link := before.addNode("link", castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/x"})
	paths := []string{p, p + "/bin", p + "/bin/*prog", p + "/bin/link", p + "/deep/1/2/3/4/5/6/7/8/9", p + "/many/499-" + strings.Repeat("n", 99), p + "/share/empty-dir", file, link}
	known := map[string]fuse.EntryOut{}
	for _, p := range paths {
		known[p] = before.find(p)
	}
	root, many := before.list(rootID, 600), before.list(before.find(p+"/many").NodeId, 600)

	after := newWorld(t, before.store)
	attr := func(name string) {
		t.Helper()
		b, err := after.fuse.Call(vt.FuseGetattr, known[name].NodeId, make([]byte, 16), 104)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := decode[fuse.AttrOut](t, b); got.Attr != known[name].Attr {
			t.Errorf("%s: %+v, before %+v", name, got.Attr, known[name].Attr)
		}
	}
	for _, p := range slices.Backward(paths) { // the deepest first: nothing is known yet
		attr(p)
	}
	if got := after.readAll(known[file].NodeId, 100); got != "a store path that is a file" {
		t.Errorf("read %q", got)
	}
	if got := after.readAll(known[p+"/bin/*prog"].NodeId, 4096); got != strings.Repeat("program ", 5000) {
		t.Errorf("read %.20q", got)
	}
	for _, p := range paths {
		if got := after.find(p); got != known[p] {
			t.Errorf("%s: %+v, before %+v", p, got, known[p])
		}
	}
	if got := after.list(rootID, 600); !maps.Equal(got, root) {
		t.Errorf("root: %v, before %v", got, root)
	}
	if got := after.list(after.find(p+"/many").NodeId, 600); !maps.Equal(got, many) {
		t.Error("a directory is another")
	}
	// A number that stands for nothing.
	if _, err := after.fuse.Call(vt.FuseGetattr, known[p].NodeId+1<<20, make([]byte, 16), 104); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("beyond the end of a tree: %v", err)
	}
}

// TestSecondInit holds that a guest may boot again on the same connection.
func TestSecondInit(t *testing.T) {
	w := newWorld(t, memoryStore())
	p := w.add("x", tree{"f": "text"})
	if _, err := w.fuse.Init(); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	if w.mounts != 2 {
		t.Errorf("%d mounts", w.mounts)
	}
	w.mu.Unlock()
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
		{"read the root", vt.FuseRead, rootID, readIn(0, 4096), 4096, syscall.EISDIR},
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
