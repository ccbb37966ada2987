package objectstore

import (
	"context"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func openBlobs(t testing.TB, url string) castore.BlobService {
	t.Helper()
	s, err := OpenBlobs(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlobs(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService { return openBlobs(t, "objectstore+memory:///") })
	})
	t.Run("file", func(t *testing.T) {
		castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService {
			return openBlobs(t, "objectstore+file://"+t.TempDir()+"/deep/store")
		})
	})
	t.Run("small chunks", func(t *testing.T) {
		castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService {
			return openBlobs(t, "objectstore+memory:///?avg_chunk_size=4096")
		})
	})
}
