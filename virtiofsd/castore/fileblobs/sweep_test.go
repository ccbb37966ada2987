package fileblobs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// age makes every blob look a day older.
func age(t *testing.T, dir string) {
	t.Helper()
	for _, f := range files(t, dir) {
		f = filepath.Join(dir, f)
		info, err := os.Stat(f)
		if err == nil {
			err = os.Chtimes(f, time.Time{}, info.ModTime().Add(-24*time.Hour))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestSweeper(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	has := func(d castore.Digest) bool {
		t.Helper()
		b, err := s.Open(context.Background(), d)
		if errors.Is(err, castore.ErrNotFound) {
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		return true
	}
	use := func(d castore.Digest) bool {
		t.Helper()
		ok, err := s.Has(context.Background(), d)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	put := func(i int) castore.Digest {
		d := castoretest.PutBlob(t, s, fmt.Append(nil, "blob ", i))
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		return d
	}
	castoretest.TestSweeper(t, s.(castore.Sweeper), put, use, has, func() { age(t, dir) })
}

// TestItemsStrangers holds that only blobs are listed.
func TestItemsStrangers(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	d := castore.Digest{0xab}
	for _, name := range []string{"ab/x", "ab/" + d.Hex(), "ab/AB" + d.Hex()[2:], "cd/" + d.Hex(), "ab/b3:" + d.Hex(), "strange/x"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), nil, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	for item, err := range s.(castore.Sweeper).Items(context.Background()) {
		if err != nil || item.Digest != d {
			t.Errorf("%+v, %v", item, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d are listed", n)
	}
}

// TestGuard holds who keeps whom out.
func TestGuard(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep/store")
	a, b := mustOpen(t, dir).(castore.Guard), mustOpen(t, dir).(castore.Guard)
	ctx := context.Background()
	hold1, err1 := a.Hold(ctx)
	hold2, err2 := b.Hold(ctx)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	short, cancel := context.WithTimeout(ctx, 3*lockPause)
	defer cancel()
	if _, err := b.Exclude(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Exclude while the store is held: %v", err)
	}
	hold1()
	hold2()
	exclude, err := b.Exclude(ctx)
	if err != nil {
		t.Fatal(err)
	}
	short2, cancel2 := context.WithTimeout(ctx, 3*lockPause)
	defer cancel2()
	if _, err := a.Hold(short2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Hold while others are excluded: %v", err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		release, err := a.Hold(ctx) // waits
		if err != nil {
			t.Error(err)
			return
		}
		release()
	})
	exclude()
	wg.Wait()
}

// TestHasOrRemove has users and a sweeper meet at one old blob: either it is
// found and stays, or it is not found.
func TestHasOrRemove(t *testing.T) {
	dir := t.TempDir()
	s, other := mustOpen(t, dir), mustOpen(t, dir)
	defer s.Close()
	defer other.Close()
	ctx := context.Background()
	found := 0
	for range 300 {
		d := castoretest.PutBlob(t, s, []byte("contents"))
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		age(t, dir)
		var wg sync.WaitGroup
		var has bool
		wg.Go(func() {
			var err error
			if has, err = s.Has(ctx, d); err != nil {
				t.Error(err)
			}
		})
		removed, err := other.(castore.Sweeper).Remove(ctx, []castore.Item{{Digest: d}}, time.Now().Add(-time.Hour))
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if has == (len(removed) == 1) {
			t.Fatalf("found: %v, removed: %d", has, len(removed))
		}
		if has {
			found++
		}
	}
	t.Logf("found %d of 300 times", found)
}
