package narbridge_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// TestTable holds the table of spec/store.md 3.4 where a store is empty.
func TestTable(t *testing.T) {
	b := newBridge(t, narbridge.Options{Priority: 39})
	hash, file := strings.Repeat("0", 32), sum("")
	const link = "GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ" // spec/store.md 8
	for _, tt := range []struct {
		method, path string
		status       int
		contentType  string
		body         string
	}{
		{"GET", "/", 200, "text/plain; charset=utf-8", "Hello from nar-bridge"},
		{"GET", "/nix-cache-info", 200, "text/x-nix-cache-info", "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 39\n"},
		{"HEAD", "/nix-cache-info", 200, "text/x-nix-cache-info", ""},
		{"GET", "/" + hash + ".narinfo", 404, "", "no store path"},
		{"HEAD", "/" + hash + ".narinfo", 404, "", ""},
		{"GET", "/" + hash[1:] + ".narinfo", 404, "", "nothing"},
		{"GET", "/" + strings.Repeat("e", 32) + ".narinfo", 404, "", "nothing"}, // not nixbase32
		{"PUT", "/" + hash[1:] + ".narinfo", 404, "", "nothing"},
		{"PUT", "/" + hash + ".narinfo", 400, "", "no StorePath"},
		{"PUT", "/nar/x.nar", 401, "", "does not name a NAR"},
		{"PUT", "/nar/" + file + ".nar.rar", 401, "", "not known here"},
		{"HEAD", "/nar/" + file + ".nar", 404, "", ""},
		{"HEAD", "/nar/" + file + ".nar.xz", 404, "", ""},
		{"HEAD", "/nar/" + file + ".nar.foo", 401, "", ""},
		{"HEAD", "/nar/" + file[1:] + ".nar", 401, "", ""},
		{"GET", "/nar/" + file + ".nar", 404, "", "no NAR"},
		{"GET", "/nar/x", 404, "", "no NAR"},
		{"GET", "/nar/snix-castore/" + link, 400, "", "narsize"},
		{"GET", "/nar/snix-castore/" + link + "?narsize=x", 400, "", "narsize"},
		{"GET", "/nar/snix-castore/" + link + "?narsize=137", 400, "", "136"},
		{"GET", "/nar/snix-castore/" + link + "?narsize=136", 200, "application/x-nix-nar", "somewhereelse"},
		{"GET", "/nar/tvix-castore/" + link + "?narsize=136", 200, "application/x-nix-nar", "somewhereelse"},
		{"HEAD", "/nar/snix-castore/" + link + "?narsize=136", 200, "application/x-nix-nar", ""},
		{"GET", "/nar/snix-castore/!?narsize=136", 404, "", "base64"},
		{"GET", "/nar/snix-castore/GgYKAWESAWI?narsize=136", 404, "", "has a name"},
		{"GET", "/nar/snix-castore/" + strings.Repeat("A", 6000) + "?narsize=136", 400, "", "longer than 4096"},
		{"GET", "/nar/snix-castore/CiQSID-VGhWv1Yb7MSHvTRPVgugRzg5afyHASX_YdJDp4jVaGAQ?narsize=840", 404, "", "not in the store"},
		{"POST", "/nix-cache-info", 405, "", "POST"},
		{"DELETE", "/" + hash + ".narinfo", 405, "", "DELETE"},
		{"PUT", "/log/x.drv", 404, "", "no build logs"},
		{"PUT", "/" + hash + ".ls", 200, "", ""},
		{"GET", "/" + hash + ".ls", 404, "", "no store path"},
		{"GET", "/etc/passwd", 404, "", "nothing"},
	} {
		a := b.do(tt.method, tt.path, strings.NewReader(""))
		what := fmt.Sprintf("%s %.60s", tt.method, tt.path)
		if tt.method == "HEAD" {
			if a.status != tt.status || a.body != "" {
				t.Errorf("%s: %d %q, want %d", what, a.status, a.body, tt.status)
			}
		} else {
			a.want(t, what, tt.status, tt.body)
		}
		if tt.contentType != "" && a.header.Get("Content-Type") != tt.contentType {
			t.Errorf("%s: content type %q", what, a.header.Get("Content-Type"))
		}
	}
}

// TestRoundTrip puts a tree and gets it again, whole and in parts.
func TestRoundTrip(t *testing.T) {
	b := newBridge(t, narbridge.Options{})
	nar := treeNAR(t, 300_000)
	n := infoOf(nar, "tree")
	b.mustPut(nar, n)
	url := b.narURL(n)
	if !strings.HasPrefix(url, "/nar/snix-castore/") {
		t.Errorf("the NAR is at %s", url)
	}
	whole := b.get(url)
	if whole.body != nar || whole.length != int64(len(nar)) {
		t.Errorf("GET: %d, %d bytes, Content-Length %d", whole.status, len(whole.body), whole.length)
	}
	if c := whole.header.Get("Cache-Control"); c != "max-age=31536000, immutable" {
		t.Errorf("Cache-Control %q", c)
	}
	if head := b.do("HEAD", url, nil); head.status != 200 || head.length != int64(len(nar)) || head.body != "" {
		t.Errorf("HEAD: %d, Content-Length %d", head.status, head.length)
	}
	if a := b.get(strings.Replace(url, "snix", "tvix", 1)); a.body != nar {
		t.Errorf("tvix-castore: %d", a.status)
	}
	if a := b.get("/nar/" + sum(nar) + ".nar"); a.body != nar {
		t.Errorf("by its own hash: %d", a.status)
	}
	if a := b.do("HEAD", "/nar/"+sum(nar)+".nar", nil); a.status != 200 || a.length != int64(len(nar)) {
		t.Errorf("HEAD by its own hash: %d, Content-Length %d", a.status, a.length)
	}
	etag := whole.header.Get("Etag")
	if a := b.get(url, "If-None-Match", etag); a.status != 304 || a.body != "" || etag == "" {
		t.Errorf("with its own ETag %q: %d", etag, a.status)
	}
	for _, tt := range []struct {
		header string
		status int
		from   int
		to     int
	}{
		{"bytes=0-0", 206, 0, 1},
		{"bytes=100-299999", 206, 100, 300_000},
		{"bytes=-5", 206, len(nar) - 5, len(nar)},
		{"bytes=1000-", 206, 1000, len(nar)},
		{"bytes=1000-99999999", 206, 1000, len(nar)},
		{"bytes=99999999-", 416, 0, 0},
		{"bytes=x", 416, 0, 0},
		{"lines=1-2", 416, 0, 0},
	} {
		a := b.get(url, "Range", tt.header)
		if a.status != tt.status {
			t.Errorf("%s: %d, want %d", tt.header, a.status, tt.status)
			continue
		}
		want := fmt.Sprintf("bytes %d-%d/%d", tt.from, tt.to-1, len(nar))
		if tt.status == 206 && (a.body != nar[tt.from:tt.to] || a.header.Get("Content-Range") != want || a.length != int64(tt.to-tt.from)) {
			t.Errorf("%s: %d bytes, Content-Range %q", tt.header, len(a.body), a.header.Get("Content-Range"))
		}
		if got := a.header.Get("Content-Range"); tt.header == "bytes=99999999-" && got != fmt.Sprintf("bytes */%d", len(nar)) {
			t.Errorf("%s: Content-Range %q", tt.header, got)
		}
	}
	if a := b.get(url, "Range", "bytes=0-9,20-29"); a.status != 206 || !strings.Contains(a.body, nar[0:10]) || !strings.Contains(a.body, nar[20:30]) {
		t.Errorf("two ranges: %d %q", a.status, a.body)
	}
	if a := b.get(url, "Range", "bytes=0-9", "If-Range", `"other"`); a.status != 200 || a.body != nar {
		t.Errorf("If-Range with another ETag: %d", a.status)
	}
}

// TestNARInfoText holds the text for a path with all that there is.
func TestNARInfoText(t *testing.T) {
	b := newBridge(t, narbridge.Options{AnyReferences: true})
	nar := fileNAR(t, "Hello World!", false)
	n := infoOf(nar, "hello")
	other := infoOf(nar, "other").StorePath
	n.References = []storepath.StorePath{other}
	n.Deriver = &other
	b.mustPut(nar, n)
	a := b.get(infoPath(n))
	want := "StorePath: " + n.StorePath.Absolute() + `
URL: nar/snix-castore/EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAw?narsize=128
Compression: none
FileSize: 128
NarHash: sha256:0h40zg6hakjv951nyhdad7mv9za56m3za5gnpiw5s1hbwcxzdrq3
NarSize: 128
References: ` + other.String() + "\nDeriver: " + other.String() + ".drv\n"
	if a.body != want || a.header.Get("Content-Type") != "text/x-nix-narinfo" {
		t.Errorf("%s\n%s", a.header.Get("Content-Type"), a.body)
	}
	head := b.do("HEAD", infoPath(n), nil)
	if head.length != int64(len(want)) || head.header.Get("Etag") != a.header.Get("Etag") {
		t.Errorf("HEAD: length %d, ETag %q", head.length, head.header.Get("Etag"))
	}
	if again := b.get(infoPath(n), "If-None-Match", a.header.Get("Etag")); again.status != 304 {
		t.Errorf("with its ETag: %d", again.status)
	}
	if a := b.put(infoPath(n), string(n.Marshal())); a.status != 200 {
		t.Errorf("put again: %d %s", a.status, a.body)
	}
}

// TestListing compares a listing with the NAR that it speaks of.
func TestListing(t *testing.T) {
	b := newBridge(t, narbridge.Options{})
	nar := treeNAR(t, 1000)
	n := infoOf(nar, "tree")
	b.mustPut(nar, n)
	path := "/" + n.StorePath.Hash.String() + ".ls"
	a := b.get(path)
	type node struct {
		Type       string
		Size       int
		Executable bool
		NarOffset  int
		Target     string
		Entries    map[string]node
	}
	var got struct {
		Version int
		Root    node
	}
	if err := json.Unmarshal([]byte(a.body), &got); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
	root := got.Root
	run, odd, large := root.Entries["bin2"].Entries["run"], root.Entries["bin"].Entries["ü \"<\\"], root.Entries["large"]
	if got.Version != 1 || len(root.Entries) != 5 || !run.Executable || odd.Type != "regular" || root.Entries["empty"].Type != "directory" ||
		root.Entries["link"].Target != "bin/run" || large.Size != 1000 {
		t.Errorf("%s", a.body)
	}
	if nar[run.NarOffset:run.NarOffset+run.Size] != "#!/bin/sh\n" {
		t.Errorf("run is not at %d", run.NarOffset)
	}
	if head := b.do("HEAD", path, nil); head.length != int64(len(a.body)) {
		t.Errorf("HEAD: length %d, want %d", head.length, len(a.body))
	}
	if again := b.get(path, "If-None-Match", a.header.Get("Etag")); again.status != 304 {
		t.Errorf("with its ETag: %d", again.status)
	}
	d, err := castore.NewDirectory([]castore.Entry{{Name: "\xff", Node: castore.Node{Kind: castore.KindSymlink, Target: "x"}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Directories.Put(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Put(d); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Close(); err != nil {
		t.Fatal(err)
	}
	info := infoOf("x", "odd").PathInfo(d.Node())
	if _, err := b.PathInfos.Put(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	b.get("/"+info.StorePath.Hash.String()+".ls").want(t, "a name that is not UTF-8", 404, "not UTF-8")
}

// TestCompression holds when an answer is compressed.
func TestCompression(t *testing.T) {
	nar := treeNAR(t, 300_000)
	n := infoOf(nar, "tree")
	for _, tt := range []struct {
		name     string
		compress narbridge.Compress
		accept   string
		zstd     bool
	}{
		{"asked for alone", narbridge.CompressAuto, "zstd", true},
		{"with identity", narbridge.CompressAuto, "identity, zstd;q=0.5", true},
		{"as curl does on this machine", narbridge.CompressAuto, "deflate, gzip, br, zstd", false},
		{"as curl does, always", narbridge.CompressAlways, "deflate, gzip, br, zstd", true},
		{"never", narbridge.CompressNever, "zstd", false},
		{"ruled out", narbridge.CompressAlways, "zstd;q=0", false},
		{"not asked for", narbridge.CompressAlways, "gzip", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBridge(t, narbridge.Options{Compress: tt.compress})
			b.mustPut(nar, n)
			url := b.narURL(n)
			for range 2 { // the second time with a used encoder
				a := b.get(url, "Accept-Encoding", tt.accept)
				if !tt.zstd {
					if a.header.Get("Content-Encoding") != "" || a.body != nar {
						t.Fatalf("encoding %q", a.header.Get("Content-Encoding"))
					}
					continue
				}
				if a.header.Get("Content-Encoding") != "zstd" || unzstd(t, a.body) != nar {
					t.Fatalf("encoding %q, %d bytes", a.header.Get("Content-Encoding"), len(a.body))
				}
				if again := b.get(url, "Accept-Encoding", tt.accept, "If-None-Match", a.header.Get("Etag")); again.status != 304 {
					t.Errorf("with its ETag: %d", again.status)
				}
				if part := b.get(url, "Accept-Encoding", tt.accept, "Range", "bytes=8-20"); part.body != nar[8:21] {
					t.Errorf("a range: %q", part.body)
				}
			}
		})
	}
}

// TestMetrics holds that requests are counted, and those of any method and path
// under few labels.
func TestMetrics(t *testing.T) {
	b := newBridge(t, narbridge.Options{})
	nar := fileNAR(t, "x", false)
	b.mustPut(nar, infoOf(nar, "x"))
	for i := range 20 {
		b.do(fmt.Sprint("METHOD", i), fmt.Sprint("/path", i), nil)
	}
	a := b.get("/metrics")
	for _, line := range []string{
		`narbridge_requests_total{method="PUT",route="nar",status="200"} 1`,
		`narbridge_requests_total{method="PUT",route="narinfo",status="200"} 1`,
		`narbridge_requests_total{method="other",route="none",status="404"} 20`,
		"narbridge_paths_stored_total 1", "narbridge_nars_stored_total 1", "narbridge_requests_in_flight 1",
	} {
		if !strings.Contains(a.body, line+"\n") {
			t.Errorf("%s is missing", line)
		}
	}
	if strings.Count(a.body, "narbridge_requests_total{") > 3 {
		t.Errorf("labels that clients make up:\n%s", a.body)
	}
}

// TestSigning holds that what is put and what was there already is served with a
// signature, once.
func TestSigning(t *testing.T) {
	key := testKey(t, "a.example-1")
	b := newBridge(t, narbridge.Options{SigningKeys: []pathinfo.SecretKey{key}})
	nar := fileNAR(t, "x", false)
	put, there := infoOf(nar, "put"), infoOf(nar, "there")
	b.mustPut(nar, put)
	p, err := b.PathInfos.Get(t.Context(), put.StorePath.Hash)
	if err != nil || len(p.Signatures) != 1 {
		t.Fatalf("stored with %d signatures: %v", len(p.Signatures), err)
	}
	if _, err := b.PathInfos.Put(t.Context(), there.PathInfo(p.Node)); err != nil {
		t.Fatal(err)
	}
	keys, err := pathinfo.ParsePublicKeys(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []*narinfo.NarInfo{put, there} {
		got, err := narinfo.Parse([]byte(b.get(infoPath(n)).body))
		if err != nil {
			t.Fatal(err)
		}
		if err := got.PathInfo(p.Node).CheckSignature(keys); err != nil || len(got.Signatures) != 1 {
			t.Errorf("%s: %d signatures: %v", n.StorePath, len(got.Signatures), err)
		}
	}
}
