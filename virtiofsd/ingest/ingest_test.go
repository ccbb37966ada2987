package ingest

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func ingestMemory(t testing.TB, path string) (Result, castore.BlobService, castore.DirectoryService) {
	t.Helper()
	blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
	r, err := Path(context.Background(), blobs, dirs, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r, blobs, dirs
}

// tree makes files below a new directory: name -> content, with "x:" before the
// content of an executable, "l:" before the target of a symlink, "d:" for an
// empty directory.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case content == "d:":
			err = os.MkdirAll(path, 0o755)
		case strings.HasPrefix(content, "l:"):
			err = os.Symlink(content[2:], path)
		case strings.HasPrefix(content, "x:"):
			err = os.WriteFile(path, []byte(content[2:]), 0o755)
		default:
			err = os.WriteFile(path, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The vectors are those of spec/store.md 8, but for the directory: its digest there
// is by the older count of entries.
func TestVectors(t *testing.T) {
	root := tree(t, map[string]string{
		"link": "l:/nix/store/somewhereelse", "file": "Hello World!", "exe": "x:Hello World!",
		"complicated/aa": "l:/nix/store/somewhereelse", "complicated/.keep": "", "complicated/keep/.keep": "",
		"empty": "d:",
	})
	const hello = "5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"
	for _, tt := range []struct {
		path   string
		kind   castore.Kind
		size   uint64
		digest string
		nar    uint64
		hash   string
	}{
		{"link", castore.KindSymlink, 0, strings.Repeat("0", 64), 136, "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"},
		{"file", castore.KindFile, 12, hello, 128, "03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"},
		{"exe", castore.KindFile, 12, hello, 160, "3b63b97bae149b3e6650437b9077c3d75b130192145792ec94ea3af96a8c567a"},
		{"complicated", castore.KindDirectory, 8, "424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb", 840, "ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"},
	} {
		t.Run(tt.path, func(t *testing.T) {
			r, _, _ := ingestMemory(t, filepath.Join(root, tt.path))
			if r.Node.Kind != tt.kind || r.Node.Size != tt.size || r.Node.Digest.Hex() != tt.digest || r.Node.Executable != (tt.path == "exe") {
				t.Errorf("node %+v", r.Node)
			}
			if r.NarSize != tt.nar || hex.EncodeToString(r.NarSHA256[:]) != tt.hash {
				t.Errorf("NAR of %d bytes with hash %x", r.NarSize, r.NarSHA256)
			}
		})
	}
	if r, _, _ := ingestMemory(t, filepath.Join(root, "empty")); r.Node != (castore.Node{Kind: castore.KindDirectory, Digest: castore.EmptyBlob}) {
		t.Errorf("empty directory: %+v", r.Node)
	}
}

// sameTree compares a stored node with the file system.
func sameTree(t *testing.T, blobs castore.BlobService, dirs castore.DirectoryService, n castore.Node, path string) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	switch n.Kind {
	case castore.KindFile:
		got, err := castoretest.GetBlob(blobs, n.Digest)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, want) || n.Size != uint64(len(want)) || n.Executable != (info.Mode()&0o100 != 0) {
			t.Errorf("%s: %+v has other contents, %v", path, n, err)
		}
	case castore.KindSymlink:
		if target, err := os.Readlink(path); err != nil || target != n.Target {
			t.Errorf("%s: target %q, %v", path, n.Target, err)
		}
	case castore.KindDirectory:
		d, err := dirs.Get(context.Background(), n.Digest)
		if err != nil {
			t.Fatal(err)
		}
		names, err := os.ReadDir(path)
		if err != nil || len(names) != len(d.Entries()) {
			t.Errorf("%s: %d entries, want %d, %v", path, len(d.Entries()), len(names), err)
		}
		for _, e := range d.Entries() {
			sameTree(t, blobs, dirs, e.Node, path+"/"+e.Name)
		}
	}
}

func TestTree(t *testing.T) {
	files := map[string]string{
		"a b": "space", "-dash": "x", "\xff\xfe": "not UTF-8", "new\nline": "x:y", "ä": "umlaut", "..x": "dots", ".x": "dot",
		"aa/b": "1", "aa.b": "2", "aa-b": "3", "aa/c/d/e": "4", "none": "d:", "dangling": "l:nowhere", "up": "l:../..",
		strings.Repeat("n", 255): "long",
	}
	for _, size := range []int{1, chunkSize - 1, chunkSize, chunkSize + 1, 3*chunkSize + 5, (maxChunks + 3) * chunkSize} {
		files[fmt.Sprint("sizes/", size)] = string(castoretest.Pattern(size, 1))
	}
	for i := range 500 {
		files[fmt.Sprintf("many/%d", i)] = fmt.Sprint("content ", i%100)
	}
	root := tree(t, files)
	r, blobs, dirs := ingestMemory(t, root)
	sameTree(t, blobs, dirs, r.Node, root)
	if size, hash := nixHash(t, root); size != r.NarSize || hash != hex.EncodeToString(r.NarSHA256[:]) {
		t.Errorf("NAR of %d bytes with hash %x, nix-store has %d, %s", r.NarSize, r.NarSHA256, size, hash)
	}
	for range 3 { // whatever the order in which the storers finish
		if again, _, _ := ingestMemory(t, root); again != r {
			t.Errorf("again: %+v, before %+v", again, r)
		}
	}
}

// nixHash is what the real nix-store makes of a path.
func nixHash(t *testing.T, path string) (size uint64, hash string) {
	t.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		t.Skip("SKIP: nix-store is missing (apt-get install nix-bin)")
	}
	out, err := exec.Command("sh", "-c", `nix-store --dump "$1" | sha256sum`, "sh", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	count, err := exec.Command("sh", "-c", `nix-store --dump "$1" | wc -c`, "sh", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscan(string(count), &size); err != nil {
		t.Fatal(err)
	}
	hash, _, _ = strings.Cut(string(out), " ")
	return size, hash
}

// TestDeep holds that neither the depth of a tree nor its path's length is
// bounded by open files, the stack or PATH_MAX.
func TestDeep(t *testing.T) {
	const depth = 5000
	root := t.TempDir()
	fd, err := unix.Open(root, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	at, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range depth {
		if err := unix.Mkdirat(at, "d", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Symlinkat("x", at, "e"); err != nil { // something to do on the way back
			t.Fatal(err)
		}
		next, err := unix.Openat(at, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		unix.Close(at)
		at = next
	}
	unix.Close(at)
	r, _, _ := ingestMemory(t, root)
	if r.Node.Size != 4*depth {
		t.Errorf("size %d, want %d", r.Node.Size, 4*depth)
	}
	// os.RemoveAll of the test's directory can take it: it works with openat.
}

func TestRefuses(t *testing.T) {
	root := tree(t, map[string]string{"fifo/a": "x", "socket/a": "x", "in/the/middle/a": "x", "unreadable/a": "x"})
	if err := unix.Mkfifo(filepath.Join(root, "fifo/b"), 0o644); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(root, "socket/b"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tt := range []struct {
		path string
		err  []string
	}{
		{root + "/nothing", []string{root + "/nothing:", "no such file"}},
		{root + "/no/thing", []string{root + "/no/thing:", "no such file"}},
		{root + "/fifo", []string{root + "/fifo/b:", "is a fifo"}},
		{root + "/fifo/b", []string{root + "/fifo/b:", "is a fifo"}},
		{root + "/socket", []string{root + "/socket/b:", "is a socket"}},
		{"/dev/null", []string{"/dev/null:", "is a character device"}},
		{root + "/fifo/a/b", []string{root + "/fifo/a/b:", "not a directory"}},
	} {
		_, err := Path(context.Background(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), tt.path, nil)
		for _, want := range tt.err {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", tt.path, err, want)
			}
		}
	}
}

// TestPathForms holds that a symlink on the way is followed, one at the end is
// not, and that other spellings mean the same.
func TestPathForms(t *testing.T) {
	root := tree(t, map[string]string{"dir/sub/file": "x", "link": "l:dir"})
	want, _, _ := ingestMemory(t, root+"/dir/sub")
	for _, path := range []string{root + "/link/sub", root + "/dir/sub/", root + "/dir/./sub", root + "//dir/x/../sub"} {
		if r, _, _ := ingestMemory(t, path); r != want {
			t.Errorf("%s: %+v, want %+v", path, r, want)
		}
	}
	if r, _, _ := ingestMemory(t, root+"/link"); r.Node.Target != "dir" {
		t.Errorf("%+v", r)
	}
	t.Chdir(root + "/dir/sub")
	if r, _, _ := ingestMemory(t, "."); r != want {
		t.Errorf(".: %+v, want %+v", r, want)
	}
}

// TestChange holds that what changes while it is read is an error: progress is
// called in the middle of reading.
func TestChange(t *testing.T) {
	content := string(castoretest.Pattern(3*chunkSize, 1))
	for _, tt := range []struct {
		name   string
		change func(root string) error
	}{
		{"grows", func(root string) error {
			f, err := os.OpenFile(root+"/a/file", os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				return err
			}
			_, err = f.WriteString("more")
			return errors.Join(err, f.Close())
		}},
		{"shrinks", func(root string) error { return os.Truncate(root+"/a/file", 2*chunkSize+1) }},
		{"becomes executable", func(root string) error { return os.Chmod(root+"/a/file", 0o755) }},
		{"new file in an open directory", func(root string) error { return os.WriteFile(root+"/a/new", nil, 0o644) }},
		{"listed file goes", func(root string) error { return os.Remove(root + "/z") }},
		{"listed file is replaced by a directory", func(root string) error {
			return errors.Join(os.Remove(root+"/z"), os.Mkdir(root+"/z", 0o755))
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := tree(t, map[string]string{"a/file": content, "z": "later"})
			done := false
			blobs := castore.NewMemoryBlobs()
			_, err := Path(context.Background(), blobs, castore.NewMemoryDirectories(), root, func(int64, int64) {
				if !done {
					done = true
					if err := tt.change(root); err != nil {
						t.Error(err)
					}
				}
			})
			if err == nil || !strings.Contains(err.Error(), "changed while it was read") || !strings.Contains(err.Error(), root) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// failingBlobs fails at the nth blob.
type failingBlobs struct {
	castore.BlobService
	left chan struct{}
}

var errDisk = errors.New("disk full")

func (f failingBlobs) Create(ctx context.Context) (castore.BlobWriter, error) {
	select {
	case <-f.left:
		return f.BlobService.Create(ctx)
	default:
		return nil, errDisk
	}
}

// TestErrors holds that an error of the store or a cancel ends everything, with
// the error that was first.
func TestErrors(t *testing.T) {
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprint(i)] = fmt.Sprint(i)
	}
	files["zlarge"] = strings.Repeat("x", 2*maxChunks*chunkSize)
	root := tree(t, files)
	for _, n := range []int{0, 1, 150, 300} {
		blobs := failingBlobs{castore.NewMemoryBlobs(), make(chan struct{}, n)}
		for range n {
			blobs.left <- struct{}{}
		}
		if _, err := Path(context.Background(), blobs, castore.NewMemoryDirectories(), root, nil); !errors.Is(err, errDisk) {
			t.Errorf("after %d blobs: %v", n, err)
		}
	}
	for _, n := range []int{0, 1, 100, 310} {
		ctx, cancel := context.WithCancel(context.Background())
		calls := 0
		_, err := Path(ctx, castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), root, func(int64, int64) {
			if calls++; calls > n {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled after %d: %v", n, err)
		}
		cancel()
	}
}

func TestProgress(t *testing.T) {
	root := tree(t, map[string]string{"a": "123", "b/c": strings.Repeat("x", 2*chunkSize), "d": "l:x", "e": ""})
	var files, bytes int64
	_, err := Path(context.Background(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), root, func(f, b int64) {
		files += f
		bytes += b
	})
	if err != nil || files != 4 || bytes != 3+2*chunkSize {
		t.Errorf("%d files, %d bytes, %v", files, bytes, err)
	}
}
