package binarycache

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// testPath is a path with a file of size bytes, and its NAR.
func testPath(t testing.TB, name string, size int) (*pathinfo.PathInfo, []byte) {
	t.Helper()
	content := make([]byte, size)
	for i := range content {
		content[i] = byte(i * i >> 7)
	}
	var b bytes.Buffer
	w := nar.NewWriter(&b)
	err := w.File(uint64(size), false)
	if err == nil {
		_, err = w.Write(content)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	p := &pathinfo.PathInfo{NarSize: uint64(b.Len()), NarSHA256: sha256.Sum256(b.Bytes()), Node: castore.Node{Kind: castore.KindFile, Size: uint64(size)}}
	if p.StorePath, err = storepath.FromNARHash(name, p.NarSHA256); err != nil {
		t.Fatal(err)
	}
	return p, b.Bytes()
}

// put stores a path in a new cache directory.
func put(t testing.TB, p *pathinfo.PathInfo, archive []byte, compression string) (dir string, n *narinfo.NarInfo) {
	t.Helper()
	dir = t.TempDir()
	c := open(t, "file://"+dir)
	err := c.Init(context.Background())
	if err == nil {
		n, err = c.PutPath(context.Background(), p, Upload{Compression: compression, WriteNAR: func(w io.Writer) error {
			_, err := w.Write(archive)
			return err
		}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir, n
}

func open(t testing.TB, address string) *Cache {
	t.Helper()
	a, err := ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// download reads a path whole.
func download(c *Cache, p *pathinfo.PathInfo) ([]byte, error) {
	n, err := c.NarInfo(context.Background(), p.StorePath.Hash)
	if err != nil {
		return nil, err
	}
	d, err := c.OpenNAR(context.Background(), n, nil)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return io.ReadAll(d)
}

// serve serves a directory, with what comes before it.
func serve(t testing.TB, dir string, before func(w http.ResponseWriter, r *http.Request) (done bool)) string {
	t.Helper()
	files := http.FileServer(http.Dir(dir))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if before == nil || !before(w, r) {
			files.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestEveryCompressionComesBack(t *testing.T) {
	p, archive := testPath(t, "hello", 300_000)
	for _, compression := range []string{"none", "zstd", "xz", "gzip"} {
		dir, n := put(t, p, archive, compression)
		for _, address := range []string{"file://" + dir, serve(t, dir, nil)} {
			got, err := download(open(t, address+"?allow-unsigned=1"), p)
			if err != nil || !bytes.Equal(got, archive) {
				t.Errorf("%s from %s: %d bytes, %v", compression, address, len(got), err)
			}
		}
		if compression != "none" && n.FileSize >= p.NarSize {
			t.Errorf("%s: %d bytes of %d", compression, n.FileSize, p.NarSize)
		}
	}
}

func TestDownloadGoesOnWhereItBroke(t *testing.T) {
	p, archive := testPath(t, "hello", 1<<20)
	dir, _ := put(t, p, archive, "none")
	for _, ranges := range []bool{true, false} {
		var cuts, ranged atomic.Int32
		url := serve(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/nar/") {
				return false
			}
			if r.Header.Get("Range") != "" {
				ranged.Add(1)
			}
			if !ranges {
				r.Header.Del("Range")
			}
			if cuts.Add(1) > 3 {
				return false
			}
			if !ranges || r.Header.Get("Range") == "" {
				w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
				_, _ = w.Write(archive[:len(archive)/4*int(cuts.Load())])
			}
			panic(http.ErrAbortHandler)
		})
		got, err := download(open(t, url+"?allow-unsigned=1"), p)
		if err != nil || !bytes.Equal(got, archive) {
			t.Errorf("ranges %v: %d bytes, %v", ranges, len(got), err)
		}
		if ranged.Load() == 0 || cuts.Load() < 4 {
			t.Errorf("ranges %v: %d cuts, %d requests with a range", ranges, cuts.Load(), ranged.Load())
		}
	}
}

func TestFaults(t *testing.T) {
	p, archive := testPath(t, "hello", 100_000)
	dir, n := put(t, p, archive, "zstd")
	change := func(old, new string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, ".narinfo") {
				return false
			}
			text := string(n.Marshal())
			if !strings.Contains(text, old) {
				t.Errorf("no %q in\n%s", old, text)
			}
			_, _ = io.WriteString(w, strings.Replace(text, old, new, 1))
			return true
		}
	}
	other, _ := testPath(t, "other", 5)
	size := func(n uint64) string { return fmt.Sprint(n) }
	hashOf := func(n *narinfo.NarInfo) string {
		return strings.TrimSuffix(strings.TrimPrefix(n.URL, "nar/"), ".nar.zst")
	}
	for _, tt := range []struct {
		name, want, params string
		before             func(http.ResponseWriter, *http.Request) bool
	}{
		{"missing", "not in the binary cache", "", func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }},
		{"always 500", "500 Internal Server Error (2 times)", "&retries=1", func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(500); return true }},
		{"401", "netrc", "", func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(401); return true }},
		{"400 with a reason", "because", "", func(w http.ResponseWriter, _ *http.Request) bool { http.Error(w, "because", 400); return true }},
		{"redirects for ever", "redirects", "", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusFound)
			return true
		}},
		{"no answer", "no answer within 100ms", "&timeout=100ms&retries=0", func(_ http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true }},
		{"stall", "within 100ms", "&stall-timeout=100ms&retries=0", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".narinfo") {
				return false
			}
			w.Header().Set("Content-Length", size(n.FileSize))
			_, _ = w.Write([]byte{0x28, 0xb5, 0x2f, 0xfd}) // as zstd begins
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return true
		}},
		{"narinfo of another path", "it is that of", "", change(p.StorePath.String(), other.StorePath.String())},
		{"narinfo that is none", "KEY: VALUE", "", func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, "<html>")
			return true
		}},
		{"narinfo without end", "longer than", "", func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = w.Write(make([]byte, narinfo.MaxSize+1))
			return true
		}},
		{"NAR shorter than said", "its narinfo says", "", change("NarSize: "+size(n.NarSize), "NarSize: "+size(n.NarSize+8))},
		{"NAR longer than said", "longer than the", "", change("NarSize: "+size(n.NarSize), "NarSize: "+size(n.NarSize-8))},
		{"file shorter than said", "its narinfo says", "", change("FileSize: "+size(n.FileSize), "FileSize: "+size(n.FileSize+8))},
		{"file longer than said", "longer than its narinfo", "", change("FileSize: "+size(n.FileSize), "FileSize: "+size(n.FileSize-8))},
		{"other file hash", "does not have the hash", "", change("FileHash: sha256:"+hashOf(n), "FileHash: sha256:"+strings.Repeat("0", 52))},
		{"other compression", "xz", "", change("Compression: zstd", "Compression: xz")},
		{"compression that is none", `"rar" is not known`, "", change("Compression: zstd", "Compression: rar")},
		{"URL to another scheme", "leads from http to file", "", change("URL: nar", "URL: file:///etc/passwd?nar")},
		{"garbage instead of the NAR", "its narinfo says", "", func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, ".narinfo") {
				return false
			}
			_, _ = io.WriteString(w, "garbage")
			return true
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.name == "garbage instead of the NAR" {
				tt.want = "" // what the decompressor says
			}
			_, err := download(open(t, serve(t, dir, tt.before)+"?allow-unsigned=1"+tt.params), p)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestFaultsThatPass(t *testing.T) {
	p, archive := testPath(t, "hello", 100_000)
	dir, _ := put(t, p, archive, "zstd")
	var requests atomic.Int32
	url := serve(t, dir, func(w http.ResponseWriter, _ *http.Request) bool {
		switch requests.Add(1) % 3 {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
			return true
		case 2:
			panic(http.ErrAbortHandler)
		}
		return false
	})
	got, err := download(open(t, url+"?allow-unsigned=1"), p)
	if err != nil || !bytes.Equal(got, archive) || requests.Load() < 6 {
		t.Errorf("%d bytes after %d requests, %v", len(got), requests.Load(), err)
	}
}

// TestBomb has a NAR that unpacks to far more than its narinfo says.
func TestBomb(t *testing.T) {
	p, archive := testPath(t, "hello", 1000)
	dir, n := put(t, p, archive, "gzip")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 4 {
		_, _ = z.Write(make([]byte, 1<<20))
	}
	_ = z.Close()
	text := strings.Replace(string(n.Marshal()), fmt.Sprintf("FileSize: %d", n.FileSize), fmt.Sprintf("FileSize: %d", bomb.Len()), 1)
	for name, data := range map[string][]byte{n.URL: bomb.Bytes(), p.StorePath.Hash.String() + ".narinfo": []byte(text)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := download(open(t, "file://"+dir+"?allow-unsigned=1"), p)
	if err == nil || !strings.Contains(err.Error(), "longer than the 1") || len(got) > int(p.NarSize)+1 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestSignatures(t *testing.T) {
	p, archive := testPath(t, "hello", 10)
	p.StorePath.Name = "input-addressed"
	dir, _ := put(t, p, archive, "none")
	if _, err := download(open(t, "file://"+dir+"?trusted-public-keys="+testKey), p); !errors.Is(err, pathinfo.ErrNotSigned) {
		t.Errorf("not signed: %v", err)
	}
	if _, err := download(open(t, "file://"+dir), p); err == nil || !strings.Contains(err.Error(), "trusted-public-keys") {
		t.Errorf("no keys: %v", err)
	}
	// A content address that the NAR's hash proves needs no signature.
	ca, archive := testPath(t, "source", 10)
	ca.CA = &pathinfo.CA{Type: pathinfo.CANARSHA256, Digest: ca.NarSHA256[:]}
	dir, _ = put(t, ca, archive, "none")
	if _, err := download(open(t, "file://"+dir+"?trusted-public-keys="+testKey), ca); err != nil {
		t.Errorf("content-addressed: %v", err)
	}
}

func TestDirectoryKeepsItsKeysInside(t *testing.T) {
	d := directory{t.TempDir()}
	for _, key := range []string{"../x", "/etc/passwd", "nar/../../x", "http://h/x\x00", ""} {
		if _, err := d.open(context.Background(), key, 0, ""); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("%q: %v", key, err)
		}
	}
}

func TestCredentialsStayWithTheCache(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("hush\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var leaked atomic.Bool
	elsewhere := serve(t, t.TempDir(), func(_ http.ResponseWriter, r *http.Request) bool {
		leaked.Store(leaked.Load() || r.Header.Get("Authorization") != "")
		return false
	})
	p, archive := testPath(t, "hello", 10)
	dir, n := put(t, p, archive, "none")
	var asked atomic.Int32
	url := serve(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer hush" {
			w.WriteHeader(401)
			return true
		}
		asked.Add(1)
		if strings.HasSuffix(r.URL.Path, ".narinfo") {
			_, _ = io.WriteString(w, strings.Replace(string(n.Marshal()), "URL: ", "URL: "+elsewhere+"/", 1))
			return true
		}
		return false
	})
	_, err := download(open(t, url+"?allow-unsigned=1&retries=0&token-file="+token), p)
	if !errors.Is(err, ErrNotFound) || asked.Load() == 0 || leaked.Load() {
		t.Errorf("%v; %d requests, leaked %v", err, asked.Load(), leaked.Load())
	}
}

// TestUpload uploads over HTTP, with a server that fails first.
func TestUpload(t *testing.T) {
	dir := t.TempDir()
	var failed atomic.Int32
	url := serve(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPut {
			return false
		}
		if failed.Add(1) <= 2 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
		b, err := io.ReadAll(r.Body)
		if err != nil || int64(len(b)) != r.ContentLength {
			t.Errorf("%s: %d bytes of %d, %v", r.URL, len(b), r.ContentLength, err)
		}
		err = os.MkdirAll(filepath.Join(dir, "nar"), 0o755)
		if err = errors.Join(err, os.WriteFile(filepath.Join(dir, r.URL.Path), b, 0o644)); err != nil {
			t.Error(err)
		}
		return true
	})
	p, archive := testPath(t, "hello", 3<<20)
	c := open(t, url+"?allow-unsigned=1")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := c.Init(ctx); err != nil {
		t.Fatal(err)
	}
	write := func(w io.Writer) error { _, err := w.Write(archive); return err }
	if _, err := c.PutPath(ctx, p, Upload{Compression: "none", WriteNAR: write}); err != nil {
		t.Fatal(err)
	}
	if got, err := download(c, p); err != nil || !bytes.Equal(got, archive) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	p.NarSHA256[0]++
	if _, err := c.PutPath(ctx, p, Upload{Compression: "none", WriteNAR: write}); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a damaged store: %v", err)
	}
}
