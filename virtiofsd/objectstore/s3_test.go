package objectstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/objectstore/s3test"
)

func TestS3(t *testing.T) {
	server := s3test.Start(t)
	var buckets atomic.Int64
	next := func(t *testing.T) string {
		return server.Bucket(t, fmt.Sprint("store", buckets.Add(1)), "deep/prefix")
	}
	t.Run("Blobs", func(t *testing.T) {
		castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService { return openBlobs(t, next(t)) })
	})
	t.Run("Directories", func(t *testing.T) {
		castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService { return openDirectories(t, next(t)) })
	})
}

// TestS3Restart holds that what was stored is there after all processes ended
// at once.
func TestS3Restart(t *testing.T) {
	server := s3test.Start(t)
	url := server.Bucket(t, "store", "")
	content := castoretest.Pattern(3<<20, 1)
	blobs := openBlobs(t, url)
	d := castoretest.PutBlob(t, blobs, content)
	if err := blobs.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	server.Run(t)
	checkRead(t, blobs, d, content)
	again := openBlobs(t, url)
	checkRead(t, again, d, content)
	if err := blobs.Close(); err != nil {
		t.Error(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func checkRead(t *testing.T, s castore.BlobService, d castore.Digest, want []byte) {
	t.Helper()
	got, err := castoretest.GetBlob(s, d)
	if err != nil || string(got) != string(want) {
		t.Errorf("blob %s of %d bytes: read %d bytes, %v", d, len(want), len(got), err)
	}
}
