package objectstore

import (
	"context"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func openDirectories(t testing.TB, url string) castore.DirectoryService {
	t.Helper()
	s, err := OpenDirectories(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDirectories(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService { return openDirectories(t, "objectstore+memory:///") })
	})
	t.Run("file", func(t *testing.T) {
		castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService {
			return openDirectories(t, "objectstore+file://"+t.TempDir()+"/deep/store")
		})
	})
}
