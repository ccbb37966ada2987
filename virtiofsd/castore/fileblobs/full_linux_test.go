package fileblobs

import (
	"errors"
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// TestDiskFull fills a disk with small and with large blobs: the error says so,
// what was flushed before stays, nothing else has a name, and when there is room
// another service stores the rest.
func TestDiskFull(t *testing.T) {
	for _, size := range []int{10_000, 400_000} {
		dir := t.TempDir()
		if err := unix.Mount("none", dir, "tmpfs", 0, "size=6m"); err != nil {
			t.Skipf("SKIP: no small disk can be mounted (root may): %v", err)
		}
		t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		s := mustOpen(t, dir)
		before := putMany(t, s, "before", 100)
		var err error
		stored := 0
		for err == nil && stored < 10<<20/size {
			var w castore.BlobWriter
			if w, err = s.Create(t.Context()); err != nil {
				break
			}
			if _, err = w.Write(castoretest.Pattern(size, uint64(stored))); err == nil {
				_, err = w.Close()
			}
			w.Abort()
			stored++
		}
		if err == nil {
			err = s.Flush(t.Context())
		}
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("blobs of %d bytes: %d are stored on 6 MiB, %v", size, stored, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := unix.Mount("none", dir, "tmpfs", unix.MS_REMOUNT, "size=40m"); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir)
		checkAll(t, s, before)
		for item, err := range s.(castore.Sweeper).Items(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			if b, err := castoretest.GetBlob(s, item.Digest); err != nil || int64(len(b)) != item.Size {
				t.Errorf("blob of %d bytes: %d, %v", item.Size, len(b), err)
			}
		}
		rest := map[castore.Digest][]byte{}
		for i := range stored {
			b := castoretest.Pattern(size, uint64(i))
			rest[castoretest.PutBlob(t, s, b)] = b
		}
		if err := s.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		checkAll(t, s, rest)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for _, f := range files(t, dir) {
			if len(f) > 8 && f[:8] == ".staging" {
				t.Errorf("%s is left", fmt.Sprint(f))
			}
		}
	}
}
