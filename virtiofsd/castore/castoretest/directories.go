package castoretest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"storeboot/virtiofsd/castore"
)

// TestDirectories tests the services that open makes. Each call gets an empty
// one, which the suite closes.
func TestDirectories(t *testing.T, open func(*testing.T) castore.DirectoryService) {
	for _, tt := range []struct {
		name string
		test func(*testing.T, castore.DirectoryService)
	}{
		{"Put", testDirectoryPut},
		{"Refused", testDirectoryRefused},
		{"Abort", testDirectoryAbort},
		{"Closure", testDirectoryClosure},
		{"Concurrent", testDirectoryConcurrent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t)
			tt.test(t, s)
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
}

// NewDirectory makes a directory or fails the test.
func NewDirectory(t testing.TB, entries ...castore.Entry) *castore.Directory {
	t.Helper()
	d, err := castore.NewDirectory(entries)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Sub is an entry for the directory d.
func Sub(name string, d *castore.Directory) castore.Entry {
	return castore.Entry{Name: name, Node: d.Node()}
}

// vectors are the directories of spec/store.md 8.
type vectors struct{ a, b, c, d, leaf *castore.Directory }

func newVectors(t testing.TB) vectors {
	var v vectors
	v.a = NewDirectory(t)
	v.b = NewDirectory(t, Sub("a", v.a))
	v.c = NewDirectory(t, Sub("a", v.a), Sub("a'", v.a))
	v.d = NewDirectory(t, Sub("a", v.a), Sub("b", v.b))
	v.leaf = NewDirectory(t, castore.Entry{Name: "link", Node: castore.Node{Kind: castore.KindSymlink, Target: "to"}})
	return v
}

// PutDirectories stores one tree, children first.
func PutDirectories(s castore.DirectoryService, dirs ...*castore.Directory) (castore.Digest, error) {
	p, err := s.Put(context.Background())
	if err != nil {
		return castore.Digest{}, err
	}
	defer p.Abort()
	for _, d := range dirs {
		if got, err := p.Put(d); err != nil {
			return castore.Digest{}, err
		} else if got != d.Digest() {
			return castore.Digest{}, fmt.Errorf("Put returns %s for %s", got, d.Digest())
		}
	}
	return p.Close()
}

func testDirectoryPut(t *testing.T, s castore.DirectoryService) {
	v := newVectors(t)
	ctx := context.Background()
	for _, dir := range []*castore.Directory{v.b, v.c, v.d, v.leaf} {
		if got, err := s.Get(ctx, dir.Digest()); !errors.Is(err, castore.ErrNotFound) {
			t.Errorf("Get before Put = %v, %v, want ErrNotFound", got, err)
		}
	}
	for _, tree := range [][]*castore.Directory{{v.a}, {v.a, v.b}, {v.a, v.a, v.c}, {v.a, v.b, v.a, v.d}, {v.leaf}, {v.leaf}} {
		root, err := PutDirectories(s, tree...)
		if err != nil {
			t.Fatal(err)
		}
		if want := tree[len(tree)-1].Digest(); root != want {
			t.Errorf("root %s, want %s", root, want)
		}
		for _, dir := range tree {
			got, err := s.Get(ctx, dir.Digest())
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest() != dir.Digest() || string(got.Encoded()) != string(dir.Encoded()) {
				t.Errorf("Get returns another directory: %v", got)
			}
		}
	}
}

func testDirectoryRefused(t *testing.T, s castore.DirectoryService) {
	v := newVectors(t)
	if _, err := PutDirectories(s, v.leaf); err != nil { // a child that is stored does not count
		t.Fatal(err)
	}
	overLeaf := NewDirectory(t, Sub("leaf", v.leaf))
	wrongSize := v.leaf.Node()
	wrongSize.Size++
	other := NewDirectory(t, castore.Entry{Name: "other", Node: castore.Node{Kind: castore.KindSymlink, Target: "to"}})
	for _, tt := range []struct {
		name string
		dirs []*castore.Directory
		err  string
	}{
		{"nothing", nil, "nothing"},
		{"dangling", []*castore.Directory{overLeaf}, `"leaf"`},
		{"parent first", []*castore.Directory{overLeaf, v.leaf}, `"leaf"`},
		{"two roots", []*castore.Directory{v.a, v.c, v.b}, "2 roots"},
		{"unconnected", []*castore.Directory{other, v.leaf}, "2 roots"},
		{"root not last", []*castore.Directory{v.leaf, overLeaf, v.leaf}, "not the root"},
		{"child of another size", []*castore.Directory{v.leaf, NewDirectory(t, castore.Entry{Name: "leaf", Node: wrongSize})}, "size"},
	} {
		if root, err := PutDirectories(s, tt.dirs...); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, error %v, want %q", tt.name, root, err, tt.err)
		}
	}
	for _, dir := range []*castore.Directory{overLeaf, v.b, v.c, other} {
		if _, err := s.Get(context.Background(), dir.Digest()); !errors.Is(err, castore.ErrNotFound) {
			t.Errorf("a refused upload left a directory: %v", err)
		}
	}
}

func testDirectoryAbort(t *testing.T, s castore.DirectoryService) {
	v := newVectors(t)
	p, err := s.Put(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Put(v.leaf); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	p.Abort()
	if _, err := p.Put(v.leaf); err == nil {
		t.Error("Put after Abort succeeds")
	}
	if _, err := p.Close(); err == nil {
		t.Error("Close after Abort succeeds")
	}
	if _, err := s.Get(context.Background(), v.leaf.Digest()); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("Get after Abort: %v", err)
	}
	// After Close, Abort takes nothing back.
	p, err = s.Put(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Put(v.leaf); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Close(); err != nil {
		t.Fatal(err)
	}
	p.Abort()
	if _, err := p.Close(); err == nil {
		t.Error("second Close succeeds")
	}
	if _, err := s.Get(context.Background(), v.leaf.Digest()); err != nil {
		t.Errorf("Get after Close and Abort: %v", err)
	}
}

func testDirectoryClosure(t *testing.T, s castore.DirectoryService) {
	v := newVectors(t)
	ctx := context.Background()
	for d, err := range s.Closure(ctx, v.d.Digest()) {
		if d != nil || !errors.Is(err, castore.ErrNotFound) {
			t.Fatalf("closure of an absent directory yields %v, %v", d, err)
		}
	}
	if _, err := PutDirectories(s, v.a, v.b, v.d); err != nil {
		t.Fatal(err)
	}
	known := map[castore.Digest]bool{v.d.Digest(): true} // referred to so far
	var got []castore.Digest
	for d, err := range s.Closure(ctx, v.d.Digest()) {
		if err != nil {
			t.Fatal(err)
		}
		if !known[d.Digest()] {
			t.Errorf("%s comes before what refers to it, or twice", d.Digest())
		}
		delete(known, d.Digest())
		got = append(got, d.Digest())
		for _, e := range d.Entries() {
			seen := false
			for _, g := range got {
				seen = seen || g == e.Digest
			}
			if e.Kind == castore.KindDirectory && !seen {
				known[e.Digest] = true
			}
		}
	}
	if len(got) != 3 || len(known) != 0 {
		t.Errorf("closure yields %d directories and lacks %d", len(got), len(known))
	}
	for range s.Closure(ctx, v.d.Digest()) {
		break // the caller may stop early
	}
}

// testDirectoryConcurrent has uploads of the same and of other trees and
// readers side by side.
func testDirectoryConcurrent(t *testing.T, s castore.DirectoryService) {
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 10 {
				leaf, err := castore.NewDirectory([]castore.Entry{{Name: fmt.Sprint(i), Node: castore.Node{Kind: castore.KindSymlink, Target: "x"}}})
				if err != nil {
					t.Error(err)
					return
				}
				root, err := castore.NewDirectory([]castore.Entry{Sub("leaf", leaf), {Name: fmt.Sprint(w % 2), Node: leaf.Node()}})
				if err != nil {
					t.Error(err)
					return
				}
				d, err := PutDirectories(s, leaf, root)
				if err != nil {
					t.Errorf("put: %v", err)
					return
				}
				n := 0
				for _, err := range s.Closure(context.Background(), d) {
					if err != nil {
						t.Error(err)
						return
					}
					n++
				}
				if n != 2 {
					t.Errorf("closure of %d directories", n)
				}
			}
		})
	}
	wg.Wait()
}
