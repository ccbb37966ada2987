package fileblobs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/staging"
)

func mustOpen(t testing.TB, dir string) castore.BlobService {
	t.Helper()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestBlobs(t *testing.T) {
	castoretest.TestBlobs(t, func(t *testing.T) castore.BlobService {
		return mustOpen(t, filepath.Join(t.TempDir(), "deep/store"))
	})
}

// files are all files below dir, relative to it.
func files(t *testing.T, dir string) []string {
	t.Helper()
	var list []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			list = append(list, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNames holds the promise of the layout: a name is given at a flush, not
// before, and what was not flushed leaves nothing.
func TestNames(t *testing.T) {
	for _, blobs := range []int{1, staging.FewSyncs, staging.FewSyncs + 1, fewBlobs - 1} {
		dir := t.TempDir()
		s := mustOpen(t, dir)
		want := map[string]string{}
		for i := range blobs {
			content := fmt.Sprint("blob ", i)
			d := castoretest.PutBlob(t, s, []byte(content))
			want[d.Hex()[:2]+"/"+d.Hex()] = content
		}
		for _, f := range files(t, dir) {
			if !strings.HasPrefix(f, staging.Name+"/") {
				t.Errorf("%d blobs: %s has its name before the flush", blobs, f)
			}
		}
		if err := s.Flush(context.Background()); err != nil {
			t.Fatal(err)
		}
		castoretest.PutBlob(t, s, []byte("not flushed"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		got := files(t, dir)
		if len(got) != len(want) {
			t.Errorf("%d blobs: the store has %d files: %q", blobs, len(got), got)
		}
		for _, f := range got {
			b, err := os.ReadFile(filepath.Join(dir, f))
			if err != nil || want[f] != string(b) {
				t.Errorf("%s: %q, %v", f, b, err)
			}
			if info, err := os.Stat(filepath.Join(dir, f)); err != nil || info.Mode() != 0o444 {
				t.Errorf("%s: %v, %v", f, info.Mode(), err)
			}
		}
	}
}

func TestFlushByItself(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	const limit = 20
	s.(*Store).limit = limit
	large := strings.Repeat("x", bufferSize)
	for i := range 5 * limit {
		castoretest.PutBlob(t, s, fmt.Append(nil, i, large))
		s.(*Store).mu.Lock()
		if n := len(s.(*Store).staged); n >= 2*limit {
			t.Errorf("%d blobs are staged, want less than %d", n, 2*limit)
		}
		s.(*Store).mu.Unlock()
	}
	s.(*Store).flushes.Wait()
	named := 0
	for _, f := range files(t, dir) {
		if !strings.HasPrefix(f, staging.Name) {
			named++
		}
	}
	if named <= 3*limit {
		t.Errorf("%d blobs of %d have their names without a flush, want more than %d", named, 5*limit, 3*limit)
	}
	if err := s.Flush(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestReadingMakesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	s := mustOpen(t, dir)
	if _, err := s.Has(context.Background(), castore.Digest{}); err != nil {
		t.Error(err)
	}
	if err := s.Flush(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s was made: %v", dir, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Open of a file: %v", err)
	}
	s := mustOpen(t, t.TempDir())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(context.Background()); err == nil {
		t.Error("Create after Close succeeds")
	}
}

// TestNotAFile holds that a name in the store that is not a plain file is
// refused, not followed.
func TestNotAFile(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	link, sub := castore.Digest{1}, castore.Digest{2}
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "01"), 0o755),
		os.Symlink("/etc/passwd", filepath.Join(dir, "01", link.Hex())),
		os.MkdirAll(filepath.Join(dir, "02", sub.Hex()), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []castore.Digest{link, sub} {
		if b, err := s.Open(context.Background(), d); err == nil {
			b.Close()
			t.Errorf("Open(%s) succeeds", d.Hex())
		}
	}
}

// TestTwoServices has two services on one directory, as two processes do.
func TestTwoServices(t *testing.T) {
	dir := t.TempDir()
	a, b := mustOpen(t, dir), mustOpen(t, dir)
	defer b.Close()
	ctx := context.Background()
	one := castoretest.PutBlob(t, a, []byte("one"))
	castoretest.PutBlob(t, b, []byte("two"))
	if has, err := b.Has(ctx, one); has || err != nil {
		t.Errorf("Has = %v, %v for a blob that another process has not flushed", has, err)
	}
	castoretest.PutBlob(t, b, []byte("one")) // the same, at the same time
	for _, s := range []castore.BlobService{a, b} {
		if err := s.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := castoretest.GetBlob(b, one); err != nil || string(got) != "one" {
		t.Errorf("%q, %v", got, err)
	}
}

const childEnv = "STOREBOOT_TEST_FILEBLOBS"

// TestDeadProcess holds that what a killed process left is removed, and what a
// living one has is not.
func TestDeadProcess(t *testing.T) {
	if dir := os.Getenv(childEnv); dir != "" {
		s := mustOpen(t, dir)
		castoretest.PutBlob(t, s, castoretest.Pattern(bufferSize+1, 1))
		fmt.Println("written")
		select {} // until killed
	}
	dir := t.TempDir()
	alive := mustOpen(t, dir)
	defer alive.Close()
	ofParent := castoretest.Pattern(bufferSize+1, 2) // large, so that it is a file at once
	mine := castoretest.PutBlob(t, alive, ofParent)
	child := exec.Command(os.Args[0], "-test.run=^TestDeadProcess$")
	child.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "written\n" {
		t.Fatalf("child: %q, %v", line, err)
	}
	if n := len(files(t, dir)); n != 2 {
		t.Errorf("%d staged files, want 2", n)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := child.Wait(); err == nil {
		t.Error("the child ended by itself")
	}
	third := mustOpen(t, dir)
	defer third.Close()
	castoretest.PutBlob(t, third, castoretest.Pattern(bufferSize+1, 3))
	if list := files(t, dir); len(list) != 2 { // the parent's and the third's
		t.Errorf("staged files: %q", list)
	}
	if err := alive.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if b, err := castoretest.GetBlob(alive, mine); err != nil || !bytes.Equal(b, ofParent) {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// TestBroken holds that after a failed flush no further blob is taken.
func TestBroken(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	defer s.Close()
	d := castoretest.PutBlob(t, s, []byte("x"))
	// A file where the shard has to be.
	if err := os.WriteFile(filepath.Join(dir, d.Hex()[:2]), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.Flush(context.Background()); err == nil {
		t.Fatal("Flush succeeds")
	}
	if _, err := s.Create(context.Background()); err == nil || !strings.Contains(err.Error(), "earlier write failed") {
		t.Errorf("Create after a failed flush: %v", err)
	}
	if err := s.Flush(context.Background()); err == nil {
		t.Error("second Flush succeeds")
	}
}
