package ingest

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

// TestNAR holds that a NAR that the real nix-store makes gives what its tree
// gives, with its own hash.
func TestNAR(t *testing.T) {
	if _, err := exec.LookPath("nix-store"); err != nil {
		t.Skip("SKIP: nix-store is missing (apt-get install nix-bin)")
	}
	root := tree(t, map[string]string{
		"a": "1", "b/c": "x:2", "b/d": "l:../a", "empty": "", "none": "d:", "large": string(castoretest.Pattern(20<<20+1, 3)),
		"chunk": strings.Repeat("c", chunkSize), "chunk+1": strings.Repeat("c", chunkSize+1),
	})
	for _, path := range []string{root, root + "/a", root + "/b/c", root + "/b/d", root + "/none", root + "/large"} {
		archive, err := exec.Command("nix-store", "--dump", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		want, _, _ := ingestMemory(t, path)
		blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
		var files, size int64
		got, err := NAR(context.Background(), blobs, dirs, bytes.NewReader(archive), func(f, b int64) { files += f; size += b })
		if err != nil || got != want || got.NarSize != uint64(len(archive)) {
			t.Errorf("%s: %+v, %v, want %+v", path, got, err, want)
		}
		if path == root && (files != 7 || size < 20<<20) {
			t.Errorf("progress: %d files, %d bytes", files, size)
		}
		sameTree(t, blobs, dirs, got.Node, path)
		// Cut anywhere it is refused.
		for _, n := range []int{0, 8, len(archive) / 2, len(archive) - 1} {
			if _, err := NAR(context.Background(), blobs, dirs, bytes.NewReader(archive[:n]), nil); !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, %d bytes: %v", path, n, err)
			}
		}
	}
}

func TestNARErrors(t *testing.T) {
	root := tree(t, map[string]string{"a": "1", "b": "2"})
	archive, err := exec.Command("nix-store", "--dump", root).Output()
	if err != nil {
		t.Skipf("SKIP: nix-store: %v (apt-get install nix-bin)", err)
	}
	if _, err := NAR(context.Background(), failingBlobs{castore.NewMemoryBlobs(), make(chan struct{})}, castore.NewMemoryDirectories(), bytes.NewReader(archive), nil); !errors.Is(err, errDisk) {
		t.Errorf("blobs that fail: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NAR(ctx, castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), bytes.NewReader(archive), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// entry is an entry of a tar archive.
type entry struct {
	kind       byte
	name, body string // body is the target of a link
	mode       int64
}

func makeTar(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: e.mode, Format: tar.FormatPAX}
		if e.kind == tar.TypeReg {
			h.Size = int64(len(e.body))
		} else {
			h.Linkname = e.body
		}
		if e.kind == tar.TypeXGlobalHeader {
			h = &tar.Header{Typeflag: e.kind, PAXRecords: map[string]string{"comment": "x"}}
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if e.kind == tar.TypeReg {
			if _, err := io.WriteString(w, e.body); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTar(t *testing.T) {
	const f, d, l, h = tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	for _, tt := range []struct {
		name    string
		entries []entry
		want    map[string]string // as tree takes it; "" is the root itself
	}{
		{"one directory", []entry{{d, "top/", "", 0o755}, {f, "top/a", "1", 0o644}, {f, "top/b", "2", 0o755}}, map[string]string{"a": "1", "b": "x:2"}},
		{"its root", []entry{{d, "./", "", 0o755}, {f, "./a", "1", 0o644}}, map[string]string{"a": "1"}},
		{"no directories", []entry{{f, "top/x/y", "1", 0}, {l, "top/x/z", "y", 0}}, map[string]string{"x/y": "1", "x/z": "l:y"}},
		{"strange ways", []entry{{f, "/top/./q/../x//y", "1", 0}, {f, "other/../top/w", "2", 0}}, map[string]string{"x/y": "1", "w": "2"}},
		{"the last counts", []entry{{f, "t/a", "1", 0}, {f, "t/a", "2", 0}, {f, "t/b", "1", 0}, {d, "t/b", "", 0}, {l, "t/c", "x", 0}, {f, "t/c/d", "3", 0}}, map[string]string{"a": "2", "b": "d:", "c/d": "3"}},
		{"a directory twice", []entry{{d, "t", "", 0}, {f, "t/a", "1", 0}, {d, "t/", "", 0}}, map[string]string{"a": "1"}},
		{"hard link", []entry{{f, "t/a", "1", 0o755}, {h, "t/b", "t/a", 0}, {f, "t/a", "2", 0}}, map[string]string{"a": "2", "b": "x:1"}},
		{"out of order", []entry{{f, "t/z", "1", 0}, {f, "t/a", "2", 0}, {f, "t/a.b", "3", 0}, {f, "t/a-b/c", "4", 0}}, map[string]string{"z": "1", "a": "2", "a.b": "3", "a-b/c": "4"}},
		{"global header", []entry{{tar.TypeXGlobalHeader, "", "", 0}, {f, "t/a", "1", 0}}, map[string]string{"a": "1"}},
		{"large", []entry{{f, "t/a", string(castoretest.Pattern(9<<20+1, 1)), 0}, {f, "t/b", "2", 0}}, map[string]string{"a": string(castoretest.Pattern(9<<20+1, 1)), "b": "2"}},
		{"nothing in it", []entry{{d, "t", "", 0}}, map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
			got, err := Tar(context.Background(), blobs, dirs, bytes.NewReader(makeTar(t, tt.entries...)), nil)
			root := tree(t, tt.want)
			want, _, _ := ingestMemory(t, root)
			if err != nil || got != want {
				t.Fatalf("%+v, %v, want %+v", got, err, want)
			}
			sameTree(t, blobs, dirs, got.Node, root)
		})
	}
	for name, e := range map[string]entry{"file": {f, "x", "Hello World!", 0}, "executable": {f, "./x", "Hello World!", 0o700}, "symlink": {l, "x", "/nix/store/somewhereelse", 0}} {
		got, err := Tar(context.Background(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), bytes.NewReader(makeTar(t, e)), nil)
		if err != nil || got.NarSize != map[string]uint64{"file": 128, "executable": 160, "symlink": 136}[name] { // spec/store.md 8
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestTarRefuses(t *testing.T) {
	const f, d, l, h = tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	whole := makeTar(t, entry{f, "t/a", strings.Repeat("x", 3000), 0})
	for _, tt := range []struct {
		name string
		in   []byte
		err  string
	}{
		{"out", makeTar(t, entry{f, "t/../../a", "1", 0}), "out of the archive"},
		{"two", makeTar(t, entry{f, "a", "1", 0}, entry{f, "b", "1", 0}), "2 top-level entries"},
		{"none", makeTar(t), "empty"},
		{"device", makeTar(t, entry{tar.TypeChar, "t/null", "", 0}), "type '3'"},
		{"fifo", makeTar(t, entry{tar.TypeFifo, "t/f", "", 0}), "type '6'"},
		{"long name", makeTar(t, entry{f, "t/" + strings.Repeat("n", 256), "", 0}), "longer than 255"},
		{"long path", makeTar(t, entry{f, strings.Repeat("d/", 3000) + "x", "", 0}), "longer than 4096"},
		{"long target", makeTar(t, entry{l, "t/l", strings.Repeat("t", 4096), 0}), "longer than 4095"},
		{"empty target", makeTar(t, entry{l, "t/l", "", 0}), "empty target"},
		{"hard link to nothing", makeTar(t, entry{h, "t/l", "t/x", 0}), "no file that comes before"},
		{"hard link to a directory", makeTar(t, entry{d, "t/x", "", 0}, entry{h, "t/l", "t/x", 0}), "no file that comes before"},
		{"hard link through a file", makeTar(t, entry{f, "t/x", "", 0}, entry{h, "t/l", "t/x/y", 0}), "no file that comes before"},
		{"root is a file", makeTar(t, entry{f, "t/..", "", 0}), "has to be a directory"},
		{"cut in contents", whole[:2000], "unexpected EOF"},
		{"cut in a header", whole[:100], "unexpected EOF"},
		{"text", bytes.Repeat([]byte("text"), 300), "tar"},
	} {
		_, err := Tar(context.Background(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), bytes.NewReader(tt.in), nil)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
	if _, err := Tar(context.Background(), failingBlobs{castore.NewMemoryBlobs(), make(chan struct{})}, castore.NewMemoryDirectories(), bytes.NewReader(whole), nil); !errors.Is(err, errDisk) {
		t.Errorf("blobs that fail: %v", err)
	}
}

// TestTarAsTar packs a tree with the real tar.
func TestTarAsTar(t *testing.T) {
	root := tree(t, map[string]string{"a": "1", "b/c": "x:2", "b/d": "l:../a", "none": "d:", "\xff": "3", strings.Repeat("n", 255): "4", strings.Repeat("deep/", 300) + "x": "5"})
	if err := os.Link(root+"/a", root+"/linked"); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tar", "-C", root, "-c", ".").Output()
	if err != nil {
		t.Skipf("SKIP: tar: %v", err)
	}
	blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
	got, err := Tar(context.Background(), blobs, dirs, bytes.NewReader(out), nil)
	want, _, _ := ingestMemory(t, root)
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
}

func FuzzTar(f *testing.F) {
	seeds := [][]byte{
		makeTar(f, entry{tar.TypeDir, "./", "", 0}, entry{tar.TypeReg, "./a", "contents", 0o755}, entry{tar.TypeSymlink, "b", "a", 0}, entry{tar.TypeLink, "c", "a", 0}),
		makeTar(f, entry{tar.TypeReg, "x/../y/z", "", 0}),
	}
	take := func(b []byte) (Result, castore.DirectoryService, error) {
		dirs := castore.NewMemoryDirectories()
		r, err := Tar(context.Background(), castore.NewMemoryBlobs(), dirs, bytes.NewReader(b), nil)
		return r, dirs, err
	}
	for _, s := range seeds {
		if _, _, err := take(s); err != nil {
			f.Fatalf("a seed does not reach the end: %v", err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if sparse(b) { // a few bytes may stand for a file without end
			return
		}
		r, dirs, err := take(b)
		if err != nil {
			return
		}
		if err := r.Node.Check(); err != nil {
			t.Fatal(err)
		}
		if r.Node.Kind != castore.KindDirectory {
			return
		}
		for _, err := range dirs.Closure(context.Background(), r.Node.Digest) {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// sparse says whether an archive has files that are larger than it itself.
func sparse(b []byte) bool {
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if err != nil {
			return false
		}
		if h.Size > int64(len(b)) {
			return true
		}
	}
}
