package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// sampleTree makes a tree with one of each thing.
func sampleTree(t testing.TB) string {
	dir := filepath.Join(t.TempDir(), "sample")
	write(t, dir, map[string]string{
		"bin/program*": "#!/bin/sh\n", "a/b/c": "deep", "empty": "", "none": "/", "link": "-> a/b", "dangling": "-> /nowhere",
		"large": string(castoretest.Pattern(3<<20+5, 9)), "name with space": "x", "\xff\xfe": "not UTF-8", "eight bytes": "12345678",
	})
	return dir
}

// dump is what the real nix-store --dump writes.
func dump(t testing.TB, path string) []byte {
	t.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		t.Skip("SKIP: nix-store is missing (apt-get install nix-bin)")
	}
	out, err := exec.Command("nix-store", "--dump", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExportAsNix(t *testing.T) {
	newStore(t)
	dir := sampleTree(t)
	for _, path := range []string{dir, dir + "/bin/program", dir + "/empty", dir + "/link", dir + "/none", dir + "/large"} {
		want := dump(t, path)
		stored := strings.TrimSpace(must(t, "import", path))
		if got := must(t, "export", stored); got != string(want) {
			t.Errorf("%s: %d bytes, nix-store writes %d others", path, len(got), len(want))
		}
		file := filepath.Join(t.TempDir(), "x.nar")
		must(t, "export", "-o", file, stored)
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes in the file, %v", path, len(got), err)
		}
	}
}

// blobFile is the file of a blob.
func blobFile(t testing.TB, store, digest string) string {
	t.Helper()
	d, err := castore.ParseDigest(digest)
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(store, "blobs", d.Hex()[:2], d.Hex())
}

// damageBlob changes the file of a blob and returns its name.
func damageBlob(t testing.TB, store, digest string, change func([]byte) []byte) string {
	t.Helper()
	file := blobFile(t, store, digest)
	b, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, change(b), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func flip(b []byte) []byte     { b[len(b)/2] ^= 1; return b }
func truncate(b []byte) []byte { return b[:len(b)-1] }

func TestExportRefuses(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{"flipped bit": flip, "truncated": truncate} {
		t.Run(name, func(t *testing.T) {
			store := newStore(t)
			path := strings.TrimSpace(must(t, "import", sampleTree(t)))
			digest := mustJSON[statJSON](t, "stat", "--json", path+"/large").Digest
			damageBlob(t, store, digest, change)
			out := filepath.Join(t.TempDir(), "out.nar")
			refused(t, 1, []string{path}, "export", "-o", out, path)
			if left, _ := filepath.Glob(filepath.Dir(out) + "/*"); len(left) != 0 {
				t.Errorf("%q were left", left)
			}
			if code, _, stderr := virtiofsd("export", path); code != 1 || !strings.Contains(stderr, path) {
				t.Errorf("export to standard output: exit %d: %s", code, stderr)
			}
			if code, _, stderr := virtiofsd("cat", path+"/large"); code != 1 || !strings.Contains(stderr, "damaged") {
				t.Errorf("cat: exit %d: %s", code, stderr)
			}
		})
	}
	newStore(t)
	const none = "/nix/store/00000000000000000000000000000000-none"
	refused(t, 1, []string{none, "import"}, "export", none)
	refused(t, 2, []string{none + "/x", "below"}, "export", none+"/x")
	refused(t, 2, []string{"/etc", "/nix/store"}, "export", "/etc")
}
