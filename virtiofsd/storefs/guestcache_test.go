package storefs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// guestKernel asks only for what Linux would ask: it keeps what an answer allows
// to keep for as long as that says, and does without what answered ENOSYS.
type guestKernel struct {
	w     *world
	now   time.Time
	flags uint32 // of the answer to FUSE_INIT

	none    map[uint32]bool // opcodes that answered ENOSYS
	entries map[entryKey]cachedEntry
	attrs   map[uint64]cachedAttr
	targets map[uint64]string
	lists   map[uint64]cachedList
	pages   map[uint64][]byte // whole files
}

type entryKey struct {
	parent uint64
	name   string
}

type cachedEntry struct {
	id    uint64
	until time.Time
}

type cachedAttr struct {
	fuse.Attr
	until time.Time
}

type cachedList struct {
	names []string
	mtime [2]uint64
}

func newGuestKernel(w *world) *guestKernel {
	w.t.Helper()
	b, err := w.fuse.Init()
	if err != nil {
		w.t.Fatal(err)
	}
	return &guestKernel{
		w: w, now: time.Now(), flags: binary.NativeEndian.Uint32(b[12:]), none: map[uint32]bool{},
		entries: map[entryKey]cachedEntry{}, attrs: map[uint64]cachedAttr{}, targets: map[uint64]string{},
		lists: map[uint64]cachedList{}, pages: map[uint64][]byte{},
	}
}

func (k *guestKernel) takeEntry(parent uint64, name string, e *fuse.EntryOut) {
	k.entries[entryKey{parent, name}] = cachedEntry{e.NodeId, k.now.Add(e.EntryTimeout())}
	if e.NodeId != 0 {
		k.attrs[e.NodeId] = cachedAttr{e.Attr, k.now.Add(e.AttrTimeout())}
	}
}

// walk finds a path below the root: 0 if it does not exist.
func (k *guestKernel) walk(p string) uint64 {
	k.w.t.Helper()
	id := uint64(rootID)
	for _, name := range strings.Split(p, "/") {
		c, ok := k.entries[entryKey{id, name}]
		if !ok || k.now.After(c.until) {
			e, err := k.w.lookup(id, name)
			if err != nil {
				if !errors.Is(err, syscall.ENOENT) { // which is not kept
					k.w.t.Fatalf("%s: %v", p, err)
				}
				return 0
			}
			k.takeEntry(id, name, &e)
			c = k.entries[entryKey{id, name}]
		}
		if id = c.id; id == 0 {
			return 0
		}
	}
	return id
}

func (k *guestKernel) stat(id uint64) fuse.Attr {
	k.w.t.Helper()
	a, ok := k.attrs[id]
	if !ok || k.now.After(a.until) {
		b, err := k.w.fuse.Call(vt.FuseGetattr, id, make([]byte, 16), 104)
		if err != nil {
			k.w.t.Fatal(err)
		}
		out := decode[fuse.AttrOut](k.w.t, b)
		a = cachedAttr{out.Attr, k.now.Add(out.Timeout())}
		k.attrs[id] = a
	}
	return a.Attr
}

// open opens a file or directory, by asking unless that was answered ENOSYS once.
func (k *guestKernel) open(op uint32, capability uint32, id uint64) {
	k.w.t.Helper()
	if k.none[op] {
		return
	}
	_, err := k.w.fuse.Call(op, id, make([]byte, 8), 16)
	if k.none[op] = errors.Is(err, syscall.ENOSYS) && k.flags&capability != 0; !k.none[op] {
		k.w.t.Fatalf("opcode %d: %v, flags %#x", op, err, k.flags)
	}
}

func (k *guestKernel) list(id uint64) []string {
	k.w.t.Helper()
	k.open(vt.FuseOpendir, fuse.CAP_NO_OPENDIR_SUPPORT, id)
	a := k.stat(id) // with AUTO_INVAL_DATA, before it takes its own copy
	mtime := [2]uint64{a.Mtime, uint64(a.Mtimensec)}
	if c, ok := k.lists[id]; ok && c.mtime == mtime {
		return c.names
	}
	var names []string
	for offset := uint64(0); ; {
		b, err := k.w.fuse.Call(vt.FuseReaddirplus, id, readIn(offset, 4096), 4096)
		if err != nil {
			k.w.t.Fatal(err)
		}
		if len(b) == 0 {
			break
		}
		entries, outs, err := fuse.ParseDirLookupEntries(bytes.Clone(b))
		if err != nil {
			k.w.t.Fatal(err)
		}
		for i, e := range entries {
			offset = e.Off
			if e.Name != "." && e.Name != ".." {
				names = append(names, e.Name)
				k.takeEntry(id, e.Name, &outs[i])
			}
		}
	}
	k.lists[id] = cachedList{names, mtime}
	return names
}

func (k *guestKernel) readlink(id uint64) string {
	k.w.t.Helper()
	s, ok := k.targets[id]
	if !ok {
		b, err := k.w.fuse.Call(vt.FuseReadlink, id, nil, 4096)
		if err != nil {
			k.w.t.Fatal(err)
		}
		s = string(b)
		if k.flags&fuse.CAP_CACHE_SYMLINKS != 0 {
			k.targets[id] = s
		}
	}
	return s
}

func (k *guestKernel) cat(id uint64) []byte {
	k.w.t.Helper()
	k.open(vt.FuseOpen, fuse.CAP_NO_OPEN_SUPPORT, id)
	data, ok := k.pages[id]
	if !ok {
		data = []byte(k.w.readAll(id, 8192))
		k.pages[id] = data
	}
	return data
}

// find does what find, stat, cat and readlink do on all below a directory, and
// returns how many there are.
func (k *guestKernel) find(id uint64) int {
	k.w.t.Helper()
	n := 0
	for _, name := range k.list(id) {
		n++
		child := k.entries[entryKey{id, name}].id
		switch a := k.stat(child); a.Mode & syscall.S_IFMT {
		case syscall.S_IFDIR:
			n += k.find(child)
		case syscall.S_IFLNK:
			k.readlink(child)
		default:
			if got := len(k.cat(child)); got != int(a.Size) {
				k.w.t.Errorf("%s: %d bytes, want %d", name, got, a.Size)
			}
		}
	}
	return n
}

// TestSecondWalk holds that a guest which has seen everything once asks nothing
// the second time, however much later.
func TestSecondWalk(t *testing.T) {
	whole := newWorld(t, memoryStore())
	p := whole.add("x", sampleTree())
	var closure View
	closure.Closure = append(closure.Closure, whole.path(p))
	for name, w := range map[string]*world{"store": whole, "closure": whole.view(closure)} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			k := newGuestKernel(w)
			walk := func() int {
				t.Helper()
				n := k.find(k.walk(p))
				for _, missing := range []string{"none", "bin/none", "many/none", "none/none"} {
					if k.walk(path.Join(p, missing)) != 0 {
						t.Errorf("%s exists", missing)
					}
				}
				if name == "closure" { // its root does not change either
					n += k.find(rootID)
					if k.walk("none") != 0 {
						t.Error("none exists")
					}
				}
				return n
			}
			stats := w.fs.Stats()
			first := walk()
			before := stats.Total()
			counts := func() string {
				var b strings.Builder
				for op := range uint32(opcodes) {
					if n := stats.Op(op).Count.Load(); n > 0 {
						fmt.Fprintf(&b, " %s=%d", OpcodeName(op), n)
					}
				}
				return b.String()
			}
			if before < 100 || first < 500 {
				t.Fatalf("first walk: %d entries,%s", first, counts())
			}
			firstCounts := counts()
			k.now = k.now.Add(365 * 24 * time.Hour)
			if second := walk(); second != first {
				t.Errorf("second walk: %d entries, first %d", second, first)
			}
			if stats.Total() != before {
				t.Errorf("the second walk asked: first%s, then%s", firstCounts, counts())
			}
		})
	}
}
