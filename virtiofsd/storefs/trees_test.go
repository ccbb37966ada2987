package storefs

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

func treeInfo(hash byte, n castore.Node) *pathinfo.PathInfo {
	return &pathinfo.PathInfo{StorePath: storepath.StorePath{Hash: storepath.Hash{hash}, Name: "x"}, Node: n}
}

// TestTreeNumbers holds that no two trees have a number in common, whatever is
// stored, and that one which could mean either means neither after a restart.
func TestTreeNumbers(t *testing.T) {
	w := contextWaiter{t.Context()}
	infos := pathinfo.NewMemory()
	table := newTreeTable(infos)
	file := castore.Node{Kind: castore.KindFile, Size: 1, Digest: castore.Digest{7}}
	add := func(info *pathinfo.PathInfo) *storeTree {
		t.Helper()
		if _, err := infos.Put(t.Context(), info); err != nil {
			t.Fatal(err)
		}
		n, err := table.get(info)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	a := add(treeInfo(1, file))
	if again := add(treeInfo(1, file)); again != a {
		t.Error("the same tree is another the second time")
	}
	// A hash that differs only where the number does not look.
	twin := treeInfo(1, file)
	twin.StorePath.Hash[19] = 1
	b := add(twin)
	if a.id == b.id || a.id&wideFlag != 0 || b.id&wideFlag == 0 {
		t.Errorf("numbers %#x and %#x", a.id, b.id)
	}
	// Other contents under the same store path.
	executable := file
	executable.Executable = true
	c := add(treeInfo(1, executable))
	if c.id == a.id {
		t.Error("other contents have the same number")
	}
	// A tree that is too large for the first form.
	large := add(treeInfo(2, castore.Node{Kind: castore.KindDirectory, Size: 1 << positionBits, Digest: castore.Digest{8}}))
	if large.id&wideFlag == 0 {
		t.Errorf("a large tree has the number %#x", large.id)
	}
	if _, err := table.get(treeInfo(3, castore.Node{Kind: castore.KindDirectory, Size: 1<<64 - 1})); err == nil {
		t.Error("a tree without bounds has a number")
	}
	link := add(treeInfo(0, castore.Node{Kind: castore.KindSymlink, Target: strings.Repeat("x", 9)}))
	for _, n := range []*storeTree{a, b, c, large, link} {
		if got, err := table.find(w, n.id); got != n || err != nil {
			t.Errorf("%#x: %v, %v", n.id, got, err)
		}
	}

	// After a restart.
	if _, err := infos.Put(t.Context(), treeInfo(1, file)); err != nil {
		t.Fatal(err)
	}
	table = newTreeTable(infos)
	if got, err := table.find(w, a.id); got != nil || err != nil {
		t.Errorf("a number that two trees would have: %v, %v", got, err)
	}
	if got, err := table.find(w, link.id); got == nil || got.path != link.path || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := table.find(w, large.id); got != nil || err != nil {
		t.Errorf("a number of the second form: %v, %v", got, err)
	}
}

// countedInfos counts the listings of all path infos.
type countedInfos struct {
	pathinfo.Service
	lists atomic.Int64
}

func (c *countedInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	c.lists.Add(1)
	return c.Service.List(ctx)
}

// TestGuesses holds that a guest which makes numbers up does not make us search
// the store for each.
func TestGuesses(t *testing.T) {
	store := memoryStore()
	infos := &countedInfos{Service: store.PathInfos}
	store.PathInfos = infos
	w := newWorld(t, store)
	begin := time.Now()
	for i := range uint64(1000) {
		if _, err := w.fuse.Call(vt.FuseGetattr, (i+1)<<positionBits, make([]byte, 16), 104); !errors.Is(err, syscall.ESTALE) {
			t.Fatal(err)
		}
	}
	if n, most := infos.lists.Load(), int64(time.Since(begin)/time.Second)+1; n > most {
		t.Errorf("%d searches in %v", n, time.Since(begin))
	}
}

// TestLyingSizes holds that a directory which is larger than what refers to it
// says is refused: its nodes would have the numbers of others.
func TestLyingSizes(t *testing.T) {
	w := newWorld(t, memoryStore())
	n := w.put(tree{"a": "1", "b": "2", "c": "3"}, "")
	n.Size = 2
	p := w.addNode("lie", n)
	id := w.find(p).NodeId
	if _, err := w.lookup(id, "a"); !errors.Is(err, syscall.EIO) {
		t.Errorf("LOOKUP: %v", err)
	}
	if _, err := w.fuse.Call(vt.FuseReaddirplus, id, readIn(0, 4096), 4096); !errors.Is(err, syscall.EIO) {
		t.Errorf("READDIRPLUS: %v", err)
	}
}
