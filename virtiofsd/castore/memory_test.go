package castore_test

import (
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func TestMemoryBlobs(t *testing.T) {
	castoretest.TestBlobs(t, func(*testing.T) castore.BlobService { return castore.NewMemoryBlobs() })
}

func TestMemoryDirectories(t *testing.T) {
	castoretest.TestDirectories(t, func(*testing.T) castore.DirectoryService { return castore.NewMemoryDirectories() })
}
