package narbridge_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"
	"github.com/nix-community/go-nix/pkg/nixbase32"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/nar"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// bridge is a server with a store of its own.
type bridge struct {
	narbridge.Store
	url   string
	table *uploads.Table
	t     testing.TB
}

func newBridge(t testing.TB, o narbridge.Options) *bridge {
	return serve(t, narbridge.Store{Blobs: castore.NewMemoryBlobs(), Directories: castore.NewMemoryDirectories(), PathInfos: pathinfo.NewMemory()}, o)
}

func serve(t testing.TB, store narbridge.Store, o narbridge.Options) *bridge {
	t.Helper()
	if o.Uploads == nil {
		table, err := uploads.Open(filepath.Join(t.TempDir(), "uploads"), uploads.Limits{Age: time.Hour, Rows: 1000})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = table.Close() })
		o.Uploads = table
	}
	s := httptest.NewServer(narbridge.New(store, o))
	t.Cleanup(s.Close)
	return &bridge{store, s.URL, o.Uploads, t}
}

// answer is a response that was read.
type answer struct {
	status int
	header http.Header
	length int64
	body   string
}

// do makes a request; headers come as NAME, VALUE pairs.
func (b *bridge) do(method, path string, body io.Reader, headers ...string) answer {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, b.url+path, body)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Accept-Encoding", "identity")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, string(text)}
}

func (b *bridge) get(path string, headers ...string) answer {
	b.t.Helper()
	return b.do("GET", path, nil, headers...)
}

func (b *bridge) put(path, body string, headers ...string) answer {
	b.t.Helper()
	return b.do("PUT", path, strings.NewReader(body), headers...)
}

// want fails unless the answer has the status and a part of the body; a refusal
// has to be one line.
func (a answer) want(t testing.TB, what string, status int, part string) {
	t.Helper()
	if a.status != status || !strings.Contains(a.body, part) {
		t.Errorf("%s: %d %q, want %d %q", what, a.status, a.body, status, part)
	}
	if a.status >= 400 && (strings.Count(a.body, "\n") != 1 || !strings.HasSuffix(a.body, "\n")) {
		t.Errorf("%s: the body is not one line: %q", what, a.body)
	}
}

// empty fails if the store has a path.
func (b *bridge) empty(what string) {
	b.t.Helper()
	for p, err := range b.PathInfos.List(b.t.Context()) {
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Errorf("%s: %s is stored", what, p.StorePath)
	}
}

func base32(b []byte) string { return nixbase32.EncodeToString(b) }

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return base32(h[:])
}

// fileNAR is the NAR of a file.
func fileNAR(t testing.TB, content string, executable bool) string {
	t.Helper()
	var b bytes.Buffer
	w := nar.NewWriter(&b)
	if err := w.File(uint64(len(content)), executable); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// treeNAR is the NAR of a tree of all kinds, with one file of n bytes.
func treeNAR(t testing.TB, n int) string {
	t.Helper()
	blobs, dirs := castore.NewMemoryBlobs(), castore.NewMemoryDirectories()
	file := func(b []byte, executable bool) castore.Node {
		return castore.Node{Kind: castore.KindFile, Digest: castoretest.PutBlob(t, blobs, b), Size: uint64(len(b)), Executable: executable}
	}
	sub := castoretest.NewDirectory(t, castore.Entry{Name: "run", Node: file([]byte("#!/bin/sh\n"), true)}, castore.Entry{Name: "ü \"<\\", Node: file(nil, false)})
	d := castoretest.NewDirectory(t, castoretest.Sub("bin", sub), castoretest.Sub("bin2", sub), castoretest.Sub("empty", castoretest.NewDirectory(t)),
		castore.Entry{Name: "large", Node: file(castoretest.Pattern(n, 1), false)},
		castore.Entry{Name: "link", Node: castore.Node{Kind: castore.KindSymlink, Target: "bin/run"}})
	if _, err := castoretest.PutDirectories(dirs, sub, castoretest.NewDirectory(t), d); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := castorenar.Write(t.Context(), &b, d.Node(), blobs, dirs); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// infoOf is the narinfo of a NAR under a path that does not follow from it.
func infoOf(nar, name string) *narinfo.NarInfo {
	h := sha256.Sum256([]byte("path " + name))
	n := &narinfo.NarInfo{
		StorePath: storepath.StorePath{Hash: storepath.Hash(h[:storepath.HashSize]), Name: name},
		URL:       "nar/" + sum(nar) + ".nar", Compression: "none", NarHash: sha256.Sum256([]byte(nar)), NarSize: uint64(len(nar)),
	}
	hash := n.NarHash
	n.FileHash, n.FileSize = &hash, n.NarSize
	return n
}

func infoPath(n *narinfo.NarInfo) string { return "/" + n.StorePath.Hash.String() + ".narinfo" }

// mustPut puts a NAR and its narinfo.
func (b *bridge) mustPut(nar string, n *narinfo.NarInfo, headers ...string) {
	b.t.Helper()
	b.put("/nar/"+sum(nar)+".nar", nar, headers...).want(b.t, "put NAR", 200, "")
	b.put(infoPath(n), string(n.Marshal()), headers...).want(b.t, "put narinfo", 200, "")
}

// narURL is where the narinfo of a path says that its NAR is.
func (b *bridge) narURL(n *narinfo.NarInfo) string {
	b.t.Helper()
	a := b.get(infoPath(n))
	a.want(b.t, "get narinfo", 200, "StorePath: ")
	got, err := narinfo.Parse([]byte(a.body))
	if err != nil {
		b.t.Fatal(err)
	}
	return "/" + got.URL
}

// compressed is s in a compression; bzip2 is that of the program.
func compressed(t testing.TB, name, s string) string {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch name {
	case "zstd":
		w, err = zstd.NewWriter(&b)
	case "xz":
		w, err = xz.NewWriter(&b)
	case "gzip":
		w = gzip.NewWriter(&b)
	case "br":
		w = brotli.NewWriter(&b)
	case "lz4":
		w = lz4.NewWriter(&b)
	default:
		cmd := exec.Command(name)
		cmd.Stdin, cmd.Stdout = strings.NewReader(s), &b
		if err := cmd.Run(); err != nil {
			t.Skipf("SKIP: %s: %v", name, err)
		}
		return b.String()
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
