package fileblobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/proof"
)

// putMany stores blobs in one pack and returns them.
func putMany(t *testing.T, s castore.BlobService, name string, n int) map[castore.Digest][]byte {
	t.Helper()
	m := map[castore.Digest][]byte{}
	for i := range n {
		b := bytes.Repeat(fmt.Append(nil, name, " ", i, ";"), 1+i%50)
		m[castoretest.PutBlob(t, s, b)] = b
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	return m
}

func checkAll(t *testing.T, s castore.BlobService, m map[castore.Digest][]byte) {
	t.Helper()
	for d, want := range m {
		if b, err := castoretest.GetBlob(s, d); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("blob %s: %d bytes instead of %d, %v", d, len(b), len(want), err)
		}
		if has, err := s.Has(context.Background(), d); !has || err != nil {
			t.Fatalf("Has(%s) = %v, %v", d, has, err)
		}
	}
}

// packs are the names of the packs in a store.
func packs(t *testing.T, dir string) (names []string) {
	t.Helper()
	for _, f := range files(t, filepath.Join(dir, packsName)) {
		if strings.HasSuffix(f, ".pack") {
			names = append(names, filepath.Join(dir, packsName, f))
		}
	}
	return names
}

// TestPacks holds that many small blobs are one file, which other services find,
// also those that looked before, and that merging loses nothing.
func TestPacks(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir), mustOpen(t, dir)
	defer a.Close()
	defer b.Close()
	all := map[castore.Digest][]byte{}
	for round := range 20 {
		for d, content := range putMany(t, a, fmt.Sprint("round ", round), 100) {
			if len(all) == 0 {
				checkAll(t, b, map[castore.Digest][]byte{d: content})
			}
			all[d] = content
		}
		putMany(t, a, fmt.Sprint("round ", round), 100) // all are there
		checkAll(t, b, all)
	}
	// When there are eight of like size they are merged.
	if n := len(packs(t, dir)); n < 1 || n > 8 {
		t.Errorf("%d packs", n)
	}
	if n := len(files(t, dir)); n != 2*len(packs(t, dir)) {
		t.Errorf("%d files, %d of them packs", n, len(packs(t, dir)))
	}
	c := mustOpen(t, dir)
	defer c.Close()
	checkAll(t, c, all)
	if has, err := c.Has(t.Context(), castore.Digest{1}); has || err != nil {
		t.Errorf("Has of a blob that is not there: %v, %v", has, err)
	}
	n := 0
	for item, err := range c.(castore.Sweeper).Items(t.Context()) {
		if err != nil || int(item.Size) != len(all[item.Digest]) || time.Since(item.Used) > time.Hour {
			t.Fatalf("%+v, %v", item, err)
		}
		n++
	}
	if n != len(all) {
		t.Errorf("%d blobs are listed, want %d", n, len(all))
	}
}

// TestPackSweep holds that what is removed from packs is gone for all services,
// can be stored again, and gives its room back.
func TestPackSweep(t *testing.T) {
	dir := t.TempDir()
	s, other := mustOpen(t, dir), mustOpen(t, dir)
	defer s.Close()
	defer other.Close()
	ctx := t.Context()
	kept, gone := putMany(t, s, "kept", 50), putMany(t, s, "gone", 200)
	checkAll(t, other, kept)
	checkAll(t, other, gone)
	var items []castore.Item
	var open castore.Blob // one that is being read
	var content []byte
	for d := range gone {
		items = append(items, castore.Item{Digest: d})
		if open == nil {
			var err error
			if open, err = other.Open(ctx, d); err != nil {
				t.Fatal(err)
			}
			content = gone[d]
		}
	}
	young, err := s.(castore.Sweeper).Remove(ctx, items, time.Now().Add(-time.Hour))
	if len(young) != 0 || err != nil {
		t.Errorf("%d young blobs were removed, %v", len(young), err)
	}
	removed, err := s.(castore.Sweeper).Remove(ctx, items, time.Now().Add(time.Hour))
	if len(removed) != len(gone) || err != nil {
		t.Errorf("%d blobs were removed, %v", len(removed), err)
	}
	for d := range gone {
		for _, s := range []castore.BlobService{s, other} {
			if has, err := s.Has(ctx, d); has || err != nil {
				t.Fatalf("Has of a removed blob: %v, %v", has, err)
			}
			if b, err := s.Open(ctx, d); !errors.Is(err, castore.ErrNotFound) {
				t.Fatalf("Open of a removed blob: %v, %v", b, err)
			}
		}
	}
	if err := s.(castore.Tidier).Tidy(ctx); err != nil {
		t.Fatal(err)
	}
	if n := len(packs(t, dir)); n != 1 {
		t.Errorf("%d packs are left", n)
	}
	got := make([]byte, len(content))
	if _, err := open.ReadAt(got, 0); err != nil || !bytes.Equal(got, content) {
		t.Errorf("a blob that was open: %v", err)
	}
	open.Close()
	checkAll(t, s, kept)
	checkAll(t, other, kept)
	checkAll(t, s, putMany(t, other, "gone", 200))
}

// TestPackUsed holds that the use of a blob in a pack keeps it, from another
// process too and across a merge.
func TestPackUsed(t *testing.T) {
	dir := t.TempDir()
	s, other := mustOpen(t, dir), mustOpen(t, dir)
	defer s.Close()
	defer other.Close()
	blobs := putMany(t, s, "old", 100)
	old := time.Now().Add(-48 * time.Hour)
	for _, p := range packs(t, dir) {
		// The times of all are lost, as after a power loss.
		if err := errors.Join(os.Truncate(strings.TrimSuffix(p, ".pack")+".used", 0), os.Chtimes(p, old, old)); err != nil {
			t.Fatal(err)
		}
	}
	s, other = mustOpen(t, dir), mustOpen(t, dir)
	var items []castore.Item
	for d := range blobs {
		items = append(items, castore.Item{Digest: d})
	}
	used := items[0].Digest
	if has, err := other.Has(t.Context(), used); !has || err != nil {
		t.Fatal(has, err)
	}
	removed, err := s.(castore.Sweeper).Remove(t.Context(), items, time.Now().Add(-time.Hour))
	if err != nil || len(removed) != len(items)-1 {
		t.Errorf("%d of %d are removed, %v", len(removed), len(items), err)
	}
	if err := s.(castore.Tidier).Tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	removed, err = s.(castore.Sweeper).Remove(t.Context(), items, time.Now().Add(-time.Hour))
	if err != nil || len(removed) != 0 {
		t.Errorf("after the merge %d are removed, %v", len(removed), err)
	}
	checkAll(t, other, map[castore.Digest][]byte{used: blobs[used]})
}

// TestPackConcurrent has writers, readers, a sweeper and merges at work at once,
// in two services.
func TestPackConcurrent(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir), mustOpen(t, dir)
	defer a.Close()
	defer b.Close()
	ctx := t.Context()
	keep := putMany(t, a, "keep", 200)
	var wg sync.WaitGroup
	for i, s := range []castore.BlobService{a, b} {
		wg.Go(func() {
			for round := range 12 {
				checkAll(t, s, putMany(t, s, fmt.Sprint(i, " ", round), 50))
				checkAll(t, s, keep)
			}
		})
		wg.Go(func() {
			for range 30 {
				var items []castore.Item
				for item, err := range s.(castore.Sweeper).Items(ctx) {
					if err != nil {
						t.Error(err)
						return
					}
					if _, ok := keep[item.Digest]; !ok {
						items = append(items, item)
					}
				}
				if _, err := s.(castore.Sweeper).Remove(ctx, items, time.Now().Add(-time.Hour)); err != nil {
					t.Error(err)
				}
				if err := s.(castore.Tidier).Tidy(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	checkAll(t, b, keep)
}

// flip changes one bit of a file.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrPermission) {
		err = os.Chmod(path, 0o644)
		if err == nil {
			f, err = os.OpenFile(path, os.O_RDWR, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestDamage holds that a flipped bit and a cut file reach nobody, wherever a
// blob lies, and that the rest of it, or of its pack, stays readable.
func TestDamage(t *testing.T) {
	for _, size := range []int{100, bufferSize + 1, proof.WholeSize, proof.WholeSize + 1, 5 << 20} {
		for _, sums := range []bool{true, false} {
			dir := t.TempDir()
			s := mustOpen(t, dir)
			content := castoretest.Pattern(size, 1)
			d := castoretest.PutBlob(t, s, content)
			others := putMany(t, s, "other", 60) // and d, if it is small
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			path, at := filepath.Join(dir, d.Hex()[:2], d.Hex()), int64(size/2)
			if size <= bufferSize {
				path = packs(t, dir)[0]
				at = int64(bytes.Index(must(os.ReadFile(path)), content)) + int64(size/2)
			} else if !sums {
				_ = os.Remove(path + sumsSuffix) // of an earlier version
			} else if _, err := os.Stat(path + sumsSuffix); (err == nil) != (size > proof.WholeSize) {
				t.Errorf("%d bytes: file of sums: %v", size, err)
			}
			flip(t, path, at)
			s = mustOpen(t, dir)
			b, err := s.Open(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			f := b.(castore.FileBlob)
			for range 2 {
				got, err := castoretest.GetBlob(s, d)
				if !errors.Is(err, castore.ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), d.Hex()) && !strings.Contains(err.Error(), d.String()) {
					t.Errorf("%d bytes: read %d, error %v", size, len(got), err)
				}
				if err := f.Prove(int64(size/2), 1); !errors.Is(err, castore.ErrDamaged) {
					t.Errorf("%d bytes: Prove: %v", size, err)
				}
			}
			if size > proof.WholeSize && sums {
				got := make([]byte, 10)
				if _, err := b.ReadAt(got, 0); err != nil || !bytes.Equal(got, content[:10]) {
					t.Errorf("%d bytes: a part that is whole: %v", size, err)
				}
			}
			checkAll(t, s, others)
			b.Close()
			s.Close()
			flip(t, path, at) // back
			if size > bufferSize {
				s = mustOpen(t, dir)
				if got, err := castoretest.GetBlob(s, d); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes: repaired: %v", size, err)
				}
				s.Close()
				if _, err := os.Stat(path + sumsSuffix); (err == nil) != (size > proof.WholeSize) {
					t.Errorf("%d bytes: sums after a read: %v", size, err)
				}
				if err := os.Truncate(path, int64(size-1)); err != nil {
					t.Fatal(err)
				}
				s = mustOpen(t, dir)
				if got, err := castoretest.GetBlob(s, d); !errors.Is(err, castore.ErrDamaged) {
					t.Errorf("%d bytes: a cut file: read %d, %v", size, len(got), err)
				}
				s.Close()
			}
		}
	}
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestDamagedPack holds that the blobs of a pack that cannot be opened, or whose
// index is damaged, are an error and not absent or others, and that blobs
// elsewhere stay readable.
func TestDamagedPack(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(path string, size, contents int64) error
	}{
		{"cut", func(path string, size, _ int64) error { return os.Truncate(path, size-1) }},
		{"empty", func(path string, _, _ int64) error { return os.Truncate(path, 0) }},
		{"magic", func(path string, size, _ int64) error { flip(t, path, size-64); return nil }},
		{"count", func(path string, size, _ int64) error { flip(t, path, size-48); return nil }},
		{"index", func(path string, _, contents int64) error { flip(t, path, contents+48*30+33); return nil }},
	} {
		dir := t.TempDir()
		s := mustOpen(t, dir)
		blobs := putMany(t, s, "blob", 60)
		var contents int64
		for _, b := range blobs {
			contents += int64(len(b))
		}
		elsewhere := putMany(t, s, "elsewhere", 3)
		s.Close()
		path := packs(t, dir)[0]
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := tt.damage(path, info.Size(), contents); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir)
		failed := 0
		for range 3 { // the index is kept in memory after some
			for d, want := range blobs {
				b, err := castoretest.GetBlob(s, d)
				switch {
				case err == nil && !bytes.Equal(b, want):
					t.Fatalf("%s: other bytes", tt.name)
				case errors.Is(err, castore.ErrNotFound):
					t.Fatalf("%s: a blob is absent: %v", tt.name, err)
				case err != nil:
					failed++
					if !strings.Contains(err.Error(), path) {
						t.Errorf("%s: the pack is not named: %v", tt.name, err)
					}
				}
			}
		}
		if failed == 0 {
			t.Errorf("%s: no blob fails", tt.name)
		}
		if tt.name != "index" {
			checkAll(t, s, elsewhere)
		}
		s.Close()
	}
}
