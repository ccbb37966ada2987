package substitute

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// narWords writes strings as a NAR has them.
func narWords(list ...string) []byte {
	var b bytes.Buffer
	for _, s := range list {
		_ = binary.Write(&b, binary.LittleEndian, uint64(len(s)))
		b.WriteString(s + strings.Repeat("\x00", -len(s)&7))
	}
	return b.Bytes()
}

// lie puts a NAR into the cache under the path, with a narinfo that is right
// about it.
func (w *world) lie(p *pathinfo.PathInfo, archive []byte) {
	w.t.Helper()
	n := narinfo.FromPathInfo(p, "nar/lie.nar")
	n.NarHash, n.NarSize, n.CA = sha256.Sum256(archive), uint64(len(archive)), nil
	n.FileHash, n.FileSize = nil, 0
	err := errors.Join(os.WriteFile(filepath.Join(w.dir, n.URL), archive, 0o644),
		os.WriteFile(filepath.Join(w.dir, p.StorePath.Hash.String()+".narinfo"), n.Marshal(), 0o644))
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestMalformedNARs has caches whose NARs have the hash and size that they say,
// but are none: nothing becomes visible, and it is no absence.
func TestMalformedNARs(t *testing.T) {
	const magic = "nix-archive-1"
	link := func(name string) []string {
		return []string{"entry", "(", "name", name, "node", "(", "type", "symlink", "target", "t", ")", ")"}
	}
	dir := func(names ...string) []byte {
		list := []string{magic, "(", "type", "directory"}
		for _, name := range names {
			list = append(list, link(name)...)
		}
		return narWords(append(list, ")")...)
	}
	good := dir("a", "b")
	w := newWorld(t)
	p := w.add("hello")
	for _, tt := range []struct {
		name, want string
		nar        []byte
	}{
		{"none at all", "NAR", []byte("this is no archive, it is text")},
		{"truncated", "EOF", good[:len(good)-8]},
		{"behind its end", "behind", append(bytes.Clone(good), 0)},
		{"unsorted", "comes after", dir("b", "a")},
		{"twice", "comes after", dir("a", "a")},
		{"dots", "not allowed", dir("..")},
		{"slash", "not allowed", dir("../../etc/passwd")},
		{"long name", "at most 255", dir(strings.Repeat("n", 256))},
		{"deep", "in one another", append(narWords(magic), bytes.Repeat(narWords("(", "type", "directory", "entry", "(", "name", "d", "node"), 70_000)...)},
	} {
		w.lie(p, tt.nar)
		store := memoryStore()
		s := w.service(store, Options{}, w.url+unsigned)
		if _, err := s.Get(context.Background(), p.StorePath.Hash); err == nil || errors.Is(err, pathinfo.ErrNotFound) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		for p := range store.PathInfos.List(context.Background()) {
			t.Errorf("%s: %s is in the store", tt.name, p.StorePath)
		}
	}
	w.lie(p, good)
	if _, err := w.service(memoryStore(), Options{}, w.url+unsigned).Get(context.Background(), p.StorePath.Hash); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// TestNARThatIsReplaced has a cache that replaces a path while its NAR is on the
// way: the old half and the new half make no path, the second attempt gets the
// new one.
func TestNARThatIsReplaced(t *testing.T) {
	w := newWorld(t)
	p := w.add("hello")
	w.lie(p, bigNAR('a'))
	replaced := false
	w.intercept(func(rw http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/lie.nar") || replaced {
			return false
		}
		old := bigNAR('a')
		rw.Header().Set("Content-Length", fmt.Sprint(len(old)))
		_, _ = rw.Write(old[:len(old)/2])
		w.lie(p, bigNAR('b'))
		replaced = true
		panic(http.ErrAbortHandler)
	})
	store := memoryStore()
	got, err := w.service(store, Options{}, w.url+unsigned).Get(context.Background(), p.StorePath.Hash)
	if err != nil || got.NarSHA256 != sha256.Sum256(bigNAR('b')) {
		t.Fatalf("%+v, %v", got, err)
	}
	want := *p
	want.NarSHA256, want.NarSize = got.NarSHA256, got.NarSize
	check(t, store, &want)
}

// bigNAR is the NAR of a file of one letter.
func bigNAR(letter byte) []byte {
	return narWords("nix-archive-1", "(", "type", "regular", "contents", strings.Repeat(string(letter), 1<<20), ")")
}
