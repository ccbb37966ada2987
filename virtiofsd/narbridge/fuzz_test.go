package narbridge_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/pathinfo"
)

// fuzzServer is a server with a NAR and its path.
func fuzzServer(t testing.TB, o narbridge.Options) (*narbridge.Server, narbridge.Store) {
	table, err := uploads.Open("", uploads.Limits{Age: 1 << 40, Rows: 1000})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	o.Uploads = table
	store := narbridge.Store{Blobs: castore.NewMemoryBlobs(), Directories: castore.NewMemoryDirectories(), PathInfos: pathinfo.NewMemory()}
	return narbridge.New(store, o), store
}

// request answers a request without a network.
func request(s *narbridge.Server, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	u := &url.URL{}
	u.Path, u.RawQuery, _ = strings.Cut(path, "?")
	r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), RemoteAddr: "127.0.0.1:1"}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

// FuzzRequest sends requests of any kind to a server with one path: none is a
// panic or an error of the server, and what is put has the hash of its name.
func FuzzRequest(f *testing.F) {
	nar := fileNAR(f, "Hello World!", false)
	info := infoOf(nar, "x")
	const castoreURL = "/nar/snix-castore/EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAw?narsize=128"
	seeds := []struct {
		method, path, body, name, value string
		status                          int
	}{
		{"GET", castoreURL, "", "Range", "bytes=1-5,7-9", 206},
		{"GET", castoreURL, "", "Range", "bytes=200-", 416},
		{"GET", castoreURL, "", "Accept-Encoding", "zstd", 200},
		{"HEAD", "/nar/tvix-castore/GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ?narsize=136", "", "", "", 200},
		{"GET", infoPath(info), "", "If-None-Match", "*", 304},
		{"GET", "/" + info.StorePath.Hash.String() + ".ls", "", "", "", 200},
		{"PUT", infoPath(info), string(info.Marshal()), "", "", 200},
		{"PUT", "/nar/" + sum(nar) + ".nar", nar, "Content-Encoding", "identity", 200},
		{"PUT", "/nar/" + sum(compressed(f, "gzip", nar)) + ".nar.gz", compressed(f, "gzip", nar), "", "", 200},
		{"PUT", infoPath(info), "StorePath: x", "Authorization", "Basic eDp5", 400},
		{"GET", "/nix-cache-info", "", "", "", 200},
	}
	s, store := fuzzServer(f, narbridge.Options{MaxNARSize: 1 << 20})
	prepare := func(t testing.TB) {
		for _, w := range []*httptest.ResponseRecorder{request(s, "PUT", "/nar/"+sum(nar)+".nar", nar), request(s, "PUT", infoPath(info), string(info.Marshal()))} {
			if w.Code != 200 {
				t.Fatal(w.Body)
			}
		}
	}
	prepare(f)
	for _, x := range seeds {
		if w := request(s, x.method, x.path, x.body, x.name, x.value); w.Code != x.status {
			f.Fatalf("seed %s %s: %d %s, want %d", x.method, x.path, w.Code, w.Body, x.status)
		}
		f.Add(x.method, x.path, x.body, x.name, x.value)
	}
	f.Fuzz(func(t *testing.T, method, path, body, name, value string) {
		w := request(s, method, path, body, name, value)
		if w.Code >= 500 {
			t.Fatalf("%s %q: %d %s", method, path, w.Code, w.Body)
		}
		if w.Code != 200 || method != "PUT" || !strings.HasSuffix(path, ".narinfo") {
			return
		}
		hash, err := storepath.ParseHash(strings.TrimSuffix(strings.TrimPrefix(path, "/"), ".narinfo"))
		if err != nil {
			t.Fatalf("%q was taken", path)
		}
		p, err := store.PathInfos.Get(t.Context(), hash)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzUpload puts files under their own hash: what is taken is the NAR that is
// given back.
func FuzzUpload(f *testing.F) {
	nar := fileNAR(f, "Hello World!", true)
	for _, c := range []string{"", "zstd", "xz", "gzip"} {
		file := nar
		if c != "" {
			file = compressed(f, c, nar)
		}
		s, _ := fuzzServer(f, narbridge.Options{})
		if w := request(s, "PUT", "/nar/"+sum(file)+".nar", file); w.Code != 200 {
			f.Fatalf("%s: %s", c, w.Body)
		}
		f.Add([]byte(file))
	}
	s, _ := fuzzServer(f, narbridge.Options{MaxNARSize: 1 << 20})
	f.Fuzz(func(t *testing.T, file []byte) {
		w := request(s, "PUT", "/nar/"+sum(string(file))+".nar", string(file))
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code != 200 || !bytes.HasPrefix(file, []byte(narString("nix-archive-1"))) {
			return
		}
		got := request(s, "GET", "/nar/"+sum(string(file))+".nar", "")
		if sha256.Sum256(got.Body.Bytes()) != sha256.Sum256(file) {
			t.Fatalf("%d bytes come back as %d", len(file), got.Body.Len())
		}
	})
}
