package storecopy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/pathinfo"
)

func memory() Store {
	return Store{castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), pathinfo.NewMemory()}
}

// add stores a tree of files in s under a path of its own.
func add(t testing.TB, s Store, name string, files map[string]string, references ...storepath.StorePath) *pathinfo.PathInfo {
	t.Helper()
	root := filepath.Join(t.TempDir(), name)
	for file, content := range files {
		path := filepath.Join(root, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	r, err := ingest.Path(ctx, s.Blobs, s.Directories, root, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := storepath.FromNARHash(name, r.NarSHA256)
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.PathInfos.Put(ctx, &pathinfo.PathInfo{StorePath: p, Node: r.Node, NarSize: r.NarSize, NarSHA256: r.NarSHA256, References: references})
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// diamond has directories that come early and are needed late: a, which x/a
// needs too, is the first that a source sends.
var diamond = map[string]string{"a/f": "1", "a/g/h": "2", "x/a/f": "1", "x/a/g/h": "2", "x/y/a/f": "1", "large": string(castoretest.Pattern(1<<20, 1)), "empty": ""}

func TestPath(t *testing.T) {
	ctx := context.Background()
	blobs, err := fileblobs.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer blobs.Close()
	from := memory()
	info := add(t, from, "x", diamond)
	for name, to := range map[string]Store{"memory": memory(), "files": {blobs, castore.NewMemoryDirectories(), pathinfo.NewMemory()}} {
		var bytes atomic.Int64
		got, copied, err := Path(ctx, from, to, info, func(n int64) { bytes.Add(n) })
		if err != nil || !copied || got.StorePath != info.StorePath {
			t.Fatalf("%s: %+v, %v, %v", name, got, copied, err)
		}
		if n := bytes.Load(); n != 1<<20+2 { // each blob once: 1, 2, large
			t.Errorf("%s: %d bytes", name, n)
		}
		for d, err := range to.Directories.Closure(ctx, info.Node.Digest) {
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range d.Entries() {
				if e.Kind != castore.KindFile {
					continue
				}
				if b, err := castoretest.GetBlob(to.Blobs, e.Digest); err != nil || uint64(len(b)) != e.Size {
					t.Errorf("%s: %s: %d bytes, %v", name, e.Name, len(b), err)
				}
			}
		}
		// Again: nothing is read.
		if _, copied, err := Path(ctx, Store{}, to, info, nil); err != nil || copied {
			t.Errorf("%s: again: %v, %v", name, copied, err)
		}
	}
}

// TestRootKinds copies what is no directory.
func TestRootKinds(t *testing.T) {
	ctx := context.Background()
	from, to := memory(), memory()
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/file", []byte("x"), 0o755), os.Symlink("file", dir+"/link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"file", "link"} {
		r, err := ingest.Path(ctx, from.Blobs, from.Directories, dir+"/"+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := storepath.FromNARHash(name, r.NarSHA256)
		if err != nil {
			t.Fatal(err)
		}
		if _, copied, err := Path(ctx, from, to, &pathinfo.PathInfo{StorePath: p, Node: r.Node, NarSize: r.NarSize, NarSHA256: r.NarSHA256}, nil); err != nil || !copied {
			t.Errorf("%s: %v, %v", name, copied, err)
		}
	}
}

func TestUpdate(t *testing.T) {
	ctx := context.Background()
	from, to := memory(), memory()
	info := add(t, from, "x", diamond)
	if _, _, err := Path(ctx, from, to, info, nil); err != nil {
		t.Fatal(err)
	}
	one, two := pathinfo.Signature{Name: "one"}, pathinfo.Signature{Name: "two"}
	mine, more := *info, *info
	mine.Signatures = []pathinfo.Signature{one}
	more.Signatures = []pathinfo.Signature{two, one}
	more.Deriver = &storepath.StorePath{Name: "deriver"}
	more.References = []storepath.StorePath{info.StorePath}
	if _, err := to.PathInfos.Put(ctx, &mine); err != nil {
		t.Fatal(err)
	}
	got, copied, err := Path(ctx, from, to, &more, nil)
	if err != nil || copied || !slices.Equal(got.Signatures, []pathinfo.Signature{one, two}) || got.Deriver == nil || len(got.References) != 1 {
		t.Errorf("%+v, %v, %v", got, copied, err)
	}
	// Of other contents under the same path nothing is taken.
	other := more
	other.NarSHA256[0]++
	other.Signatures = []pathinfo.Signature{{Name: "three"}}
	if got, _, err := Path(ctx, from, to, &other, nil); err != nil || len(got.Signatures) != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestClosure(t *testing.T) {
	ctx := context.Background()
	from, to := memory(), memory()
	file := func(name string) map[string]string { return map[string]string{"f": name} }
	a := add(t, from, "a", file("a"))
	b := add(t, from, "b", file("b"), a.StorePath)
	c := add(t, from, "c", file("c"), b.StorePath, a.StorePath)
	elsewhere := add(t, to, "elsewhere", file("e"))
	self := *c
	self.References = append(slices.Clone(c.References), c.StorePath, elsewhere.StorePath)
	if _, err := from.PathInfos.Put(ctx, &self); err != nil {
		t.Fatal(err)
	}
	names := func(paths ...storepath.StorePath) string {
		t.Helper()
		infos, err := Closure(ctx, from.PathInfos, to.PathInfos, paths)
		if err != nil {
			return err.Error()
		}
		var s []string
		for _, i := range infos {
			s = append(s, i.StorePath.Name)
		}
		return strings.Join(s, " ")
	}
	if got := names(c.StorePath, a.StorePath, c.StorePath); got != "a b c" {
		t.Errorf("%q", got)
	}
	if got := names(a.StorePath, b.StorePath); got != "a b" {
		t.Errorf("%q", got)
	}
	gone := add(t, memory(), "gone", file("gone"))
	d := add(t, from, "d", file("d"), gone.StorePath)
	if got := names(d.StorePath); !strings.Contains(got, gone.StorePath.Absolute()) || !strings.Contains(got, d.StorePath.Absolute()) {
		t.Errorf("%q", got)
	}
	if got := names(elsewhere.StorePath); !strings.Contains(got, elsewhere.StorePath.Absolute()) {
		t.Errorf("%q", got)
	}
	wrong := a.StorePath
	wrong.Name = "another"
	if got := names(wrong); !strings.Contains(got, "not in the store") {
		t.Errorf("%q", got)
	}
}

// wrongBlobs gives other contents than asked for.
type wrongBlobs struct {
	castore.BlobService
	other castore.Digest
}

func (w wrongBlobs) Open(ctx context.Context, _ castore.Digest) (castore.Blob, error) {
	return w.BlobService.Open(ctx, w.other)
}

// TestWrongSource holds that of a source that is damaged or lies nothing is
// stored under a path.
func TestWrongSource(t *testing.T) {
	ctx := context.Background()
	from := memory()
	info := add(t, from, "x", map[string]string{"a": "1234", "b": "5678", "d/e": "9"})
	other := castoretest.PutBlob(t, from.Blobs, []byte("abcd"))
	change := func(f func(*pathinfo.PathInfo)) *pathinfo.PathInfo {
		own := *info
		f(&own)
		return &own
	}
	for _, tt := range []struct {
		name string
		from Store
		info *pathinfo.PathInfo
		err  string
	}{
		{"NAR hash", from, change(func(p *pathinfo.PathInfo) { p.NarSHA256[0]++ }), "NAR hash"},
		{"NAR size, less", from, change(func(p *pathinfo.PathInfo) { p.NarSize-- }), "NAR size"},
		{"NAR size, more", from, change(func(p *pathinfo.PathInfo) { p.NarSize++ }), "NAR size"},
		{"descendants", from, change(func(p *pathinfo.PathInfo) { p.Node.Size++ }), "the size"},
		{"no directory", from, change(func(p *pathinfo.PathInfo) { p.Node.Digest[0]++ }), "not in the store"},
		{"no blobs", Store{castore.NewMemoryBlobs(), from.Directories, from.PathInfos}, info, "not in the store"},
		{"other blobs", Store{wrongBlobs{from.Blobs, other}, from.Directories, from.PathInfos}, info, ""},
		{"empty blobs", Store{wrongBlobs{from.Blobs, castore.EmptyBlob}, from.Directories, from.PathInfos}, info, "bytes in the source"},
	} {
		to := memory()
		_, copied, err := Path(ctx, tt.from, to, tt.info, nil)
		if err == nil || copied || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, error %v, want %q", tt.name, copied, err, tt.err)
		}
		for p, err := range to.PathInfos.List(ctx) {
			t.Errorf("%s: %v is stored, %v", tt.name, p, err)
		}
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, _, err := Path(canceled, from, memory(), info, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// BenchmarkPath copies 64 MiB in 1000 files from files to files; floor is a
// copy of the same files.
func BenchmarkPath(b *testing.B) {
	ctx := context.Background()
	files := map[string]string{}
	for i := range 1000 {
		files[fmt.Sprintf("%d/%d", i%30, i)] = string(castoretest.Pattern(64<<20/1000, uint64(i)))
	}
	source := b.TempDir()
	blobs, err := fileblobs.Open(source)
	if err != nil {
		b.Fatal(err)
	}
	defer blobs.Close()
	from := Store{blobs, castore.NewMemoryDirectories(), pathinfo.NewMemory()}
	info := add(b, from, "x", files)
	b.Run("copy", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			b.StopTimer()
			target, err := fileblobs.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
			if _, _, err := Path(ctx, from, Store{target, castore.NewMemoryDirectories(), pathinfo.NewMemory()}, info, nil); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := target.Close(); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
	b.Run("floor", func(b *testing.B) {
		b.SetBytes(64 << 20)
		for b.Loop() {
			target := b.TempDir()
			if err := os.CopyFS(target+"/x", os.DirFS(source)); err != nil && !errors.Is(err, fs.ErrExist) {
				b.Fatal(err)
			}
		}
	})
}
