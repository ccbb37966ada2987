package storecache

import (
	"context"
	"errors"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// TestGuard holds that a cache keeps collections out of near and far.
func TestGuard(t *testing.T) {
	ctx := context.Background()
	near, far := openFiles(t), openFiles(t)
	s := NewBlobs(near, far, nil).(castore.Guard)
	release, err := s.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	for name, one := range map[string]castore.BlobService{"near": near, "far": far} {
		// A lock that is free is taken at once.
		waiting, stop := context.WithTimeout(ctx, 200*time.Millisecond)
		if release, err := one.(castore.Guard).Exclude(waiting); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s is not held: %v", name, err)
			release()
		}
		stop()
	}
	release()
	release, err = s.Exclude(ctx)
	if err != nil {
		t.Fatal(err)
	}
	release()
	cancel()
	if _, err := s.Hold(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Hold: %v", err)
	}

	s = NewBlobs(near, castore.NewMemoryBlobs(), nil).(castore.Guard)
	if release, err = s.Hold(ctx); err != nil {
		t.Errorf("Hold with a far store without lock: %v", err)
	} else {
		release()
	}
	if _, err := s.Exclude(ctx); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Exclude with a far store without lock: %v", err)
	}
	if release, err = near.(castore.Guard).Exclude(ctx); err != nil {
		t.Errorf("a failed Exclude keeps near locked: %v", err)
	} else {
		release()
	}
}

// TestSigningSweeps holds that a signing service can be swept if what it signs
// for can.
func TestSigningSweeps(t *testing.T) {
	if _, ok := NewSigning(openDatabase(t).PathInfos(), testKey(t)).(pathinfo.Sweeper); !ok {
		t.Error("a database that signs cannot be swept")
	}
	if _, ok := NewSigning(pathinfo.NewMemory(), testKey(t)).(pathinfo.Sweeper); ok {
		t.Error("memory that signs can be swept")
	}
}
