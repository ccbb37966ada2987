package narsection_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/narbridge/narsection"
)

// world is a store with trees of all kinds.
type world struct {
	blobs castore.BlobService
	dirs  castore.DirectoryService
	trees map[string]castore.Node
}

func newWorld(t testing.TB, blobs castore.BlobService) *world {
	w := &world{blobs: blobs, dirs: castore.NewMemoryDirectories(), trees: map[string]castore.Node{}}
	file := func(n int, executable bool) castore.Node {
		content := castoretest.Pattern(n, uint64(n))
		return castore.Node{Kind: castore.KindFile, Digest: castoretest.PutBlob(t, w.blobs, content), Size: uint64(n), Executable: executable}
	}
	link := castore.Node{Kind: castore.KindSymlink, Target: "../" + strings.Repeat("t", 21)}
	put := func(dirs ...*castore.Directory) castore.Node {
		if _, err := castoretest.PutDirectories(w.dirs, dirs...); err != nil {
			t.Fatal(err)
		}
		return dirs[len(dirs)-1].Node()
	}
	var entries []castore.Entry
	for i := range 17 { // every padding
		entries = append(entries, castore.Entry{Name: strings.Repeat("n", i+1), Node: file(i, i%2 == 0)})
	}
	leaf := castoretest.NewDirectory(t, entries...)
	empty := castoretest.NewDirectory(t)
	deep := []*castore.Directory{castoretest.NewDirectory(t, castore.Entry{Name: "f", Node: file(5, false)})}
	for range 300 {
		deep = append(deep, castoretest.NewDirectory(t, castoretest.Sub("d", deep[len(deep)-1])))
	}
	all := castoretest.NewDirectory(t, castoretest.Sub("a", leaf), castoretest.Sub("b", leaf), castoretest.Sub("empty", empty),
		castore.Entry{Name: "large", Node: file(700_001, false)}, castore.Entry{Name: "link", Node: link},
		castore.Entry{Name: "odd \xff\n" + strings.Repeat("x", 240), Node: file(1, true)}, castoretest.Sub("z", deep[len(deep)-1]))
	w.trees["file"], w.trees["executable"], w.trees["symlink"] = file(13, false), file(0, true), link
	w.trees["empty"] = put(empty)
	w.trees["leaf"] = put(leaf)
	w.trees["all"] = put(append(append([]*castore.Directory{leaf, empty}, deep...), all)...)
	return w
}

func (w *world) view(t testing.TB, n castore.Node) *narsection.View {
	t.Helper()
	v, err := narsection.New(t.Context(), n, w.blobs, w.dirs)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWriteRange compares parts of NARs with those of the whole, as castorenar
// writes it: small NARs with all parts there are, others with random ones.
func TestWriteRange(t *testing.T) {
	w := newWorld(t, castore.NewMemoryBlobs())
	for name, node := range w.trees {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := castorenar.Write(t.Context(), &b, node, w.blobs, w.dirs); err != nil {
				t.Fatal(err)
			}
			whole, v := b.Bytes(), w.view(t, node)
			if v.Size() != uint64(len(whole)) {
				t.Fatalf("size %d, want %d", v.Size(), len(whole))
			}
			compare := func(from, to int) {
				var got bytes.Buffer
				if err := v.WriteRange(t.Context(), &got, uint64(from), uint64(to-from)); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got.Bytes(), whole[from:to]) {
					t.Fatalf("the bytes from %d to %d are others", from, to)
				}
			}
			compare(0, len(whole))
			if len(whole) < 300 {
				for from := range len(whole) + 1 {
					for to := from; to <= len(whole); to++ {
						compare(from, to)
					}
				}
			}
			random := rand.New(rand.NewPCG(1, 2))
			for range 300 {
				from := random.IntN(len(whole) + 1)
				compare(from, from+random.IntN(min(len(whole)-from, 5000)+1))
			}
		})
	}
}

// sender is a writer that takes files.
type sender struct {
	bytes.Buffer
	files int
}

func (s *sender) ReadFrom(r io.Reader) (int64, error) {
	s.files++
	return s.Buffer.ReadFrom(r)
}

// TestWriteRangeSendsFiles holds that large files are handed on as files, and
// with the right parts of them.
func TestWriteRangeSendsFiles(t *testing.T) {
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	w := newWorld(t, blobs)
	var whole bytes.Buffer
	if err := castorenar.Write(t.Context(), &whole, w.trees["all"], w.blobs, w.dirs); err != nil {
		t.Fatal(err)
	}
	v := w.view(t, w.trees["all"])
	for _, from := range []int{0, whole.Len() - 400_000} {
		var s sender
		if err := v.WriteRange(t.Context(), &s, uint64(from), v.Size()-uint64(from)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(s.Bytes(), whole.Bytes()[from:]) {
			t.Errorf("from %d: other bytes", from)
		}
		if from == 0 && s.files != 1 {
			t.Errorf("%d files were handed on, want that of 700,001 bytes", s.files)
		}
	}
}

// TestItems holds that the contents of files are where the items say.
func TestItems(t *testing.T) {
	w := newWorld(t, castore.NewMemoryBlobs())
	for name, node := range w.trees {
		v := w.view(t, node)
		var files, ends, begins int
		for item, err := range v.Items(t.Context()) {
			switch {
			case err != nil:
				t.Fatal(err)
			case item.End:
				ends++
			case item.Kind == castore.KindDirectory:
				begins++
			case item.Kind == castore.KindFile:
				files++
				want, err := castoretest.GetBlob(w.blobs, item.Digest)
				if err != nil {
					t.Fatal(err)
				}
				var got bytes.Buffer
				if err := v.WriteRange(t.Context(), &got, item.Contents, item.Size); err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Fatalf("%s: %q is not at %d: %v", name, item.Name, item.Contents, err)
				}
				var length bytes.Buffer
				if err := v.WriteRange(t.Context(), &length, item.Contents-8, 8); err != nil || uint64(length.Bytes()[0]) != item.Size&0xff {
					t.Fatalf("%s: the length of %q is not before it: %v", name, item.Name, err)
				}
			}
		}
		if begins != ends {
			t.Errorf("%s: %d directories begin and %d end", name, begins, ends)
		}
		if name == "all" && files != 17+17+1+1+1 {
			t.Errorf("%d files", files)
		}
	}
}

func TestRefuses(t *testing.T) {
	w := newWorld(t, castore.NewMemoryBlobs())
	missing := castore.Node{Kind: castore.KindDirectory, Digest: castore.Digest{1}, Size: 3}
	if _, err := narsection.New(t.Context(), missing, w.blobs, w.dirs); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("a directory that is missing: %v", err)
	}
	lying := w.trees["leaf"]
	lying.Size++
	if _, err := narsection.New(t.Context(), lying, w.blobs, w.dirs); err == nil || !strings.Contains(err.Error(), "the size") {
		t.Errorf("a parent that lies: %v", err)
	}
	v := w.view(t, castore.Node{Kind: castore.KindFile, Digest: castore.Digest{2}, Size: 10})
	if err := v.WriteRange(t.Context(), io.Discard, 0, v.Size()); !errors.Is(err, castore.ErrNotFound) {
		t.Errorf("a blob that is missing: %v", err)
	}
	if err := v.WriteRange(t.Context(), io.Discard, 0, v.Size()+1); err == nil {
		t.Error("a part behind the end is written")
	}
	longer := w.trees["file"]
	longer.Size++
	v = w.view(t, longer)
	if err := v.WriteRange(t.Context(), io.Discard, 0, v.Size()); err == nil || !strings.Contains(err.Error(), "as its parent says") {
		t.Errorf("a blob of another size: %v", err)
	}
	v = w.view(t, w.trees["all"])
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := v.WriteRange(canceled, io.Discard, 0, v.Size()); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// TestEndlessTree has a tree of few directories that says it has 2^70 files: it
// is refused at once. One with 2^50 has any part read at once.
func TestEndlessTree(t *testing.T) {
	w := newWorld(t, castore.NewMemoryBlobs())
	d := castoretest.NewDirectory(t, castore.Entry{Name: "f", Node: castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob}})
	dirs := []*castore.Directory{d}
	for range 50 {
		d = castoretest.NewDirectory(t, castoretest.Sub("a", d), castoretest.Sub("b", d))
		dirs = append(dirs, d)
	}
	if _, err := castoretest.PutDirectories(w.dirs, dirs...); err != nil {
		t.Fatal(err)
	}
	v := w.view(t, d.Node())
	if v.Directories() != 51 || v.Size() < 1<<57 {
		t.Errorf("%d directories, %d bytes", v.Directories(), v.Size())
	}
	var b bytes.Buffer
	if err := v.WriteRange(t.Context(), &b, v.Size()/3, 1000); err != nil || b.Len() != 1000 {
		t.Errorf("%d bytes: %v", b.Len(), err)
	}
	for range 8 {
		d = castoretest.NewDirectory(t, castoretest.Sub("a", d), castoretest.Sub("b", d))
		dirs = append(dirs, d)
	}
	if _, err := castoretest.PutDirectories(w.dirs, dirs...); err != nil {
		t.Fatal(err)
	}
	if _, err := narsection.New(t.Context(), d.Node(), w.blobs, w.dirs); err == nil || !strings.Contains(err.Error(), "larger than") {
		t.Errorf("a NAR of 2^65 bytes: %v", err)
	}
}

func FuzzWriteRange(f *testing.F) {
	w := newWorld(f, castore.NewMemoryBlobs())
	node := w.trees["all"]
	var whole bytes.Buffer
	if err := castorenar.Write(context.Background(), &whole, node, w.blobs, w.dirs); err != nil {
		f.Fatal(err)
	}
	v, err := narsection.New(context.Background(), node, w.blobs, w.dirs)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint64(0), uint64(whole.Len()))
	f.Add(uint64(24), uint64(1))
	f.Add(uint64(whole.Len()), uint64(0))
	f.Add(^uint64(0), uint64(2))
	f.Fuzz(func(t *testing.T, off, n uint64) {
		var b bytes.Buffer
		err := v.WriteRange(t.Context(), &b, off, n)
		if size := uint64(whole.Len()); off > size || n > size-off {
			if err == nil {
				t.Fatal(fmt.Sprint(off, n, " is taken"))
			}
			return
		}
		if err != nil || !bytes.Equal(b.Bytes(), whole.Bytes()[off:off+n]) {
			t.Fatalf("%d bytes at %d: %v", n, off, err)
		}
	})
}
