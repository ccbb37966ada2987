package narbridge_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"io"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

func unzstd(t testing.TB, s string) string {
	t.Helper()
	d, err := zstd.NewReader(strings.NewReader(s))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b, err := io.ReadAll(d)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testKey is a key that follows from its name.
func testKey(t testing.TB, name string) pathinfo.SecretKey {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	k, err := pathinfo.ParseSecretKey(name + ":" + base64.StdEncoding.EncodeToString(ed25519.NewKeyFromSeed(seed[:])))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func publicKeys(t testing.TB, keys ...pathinfo.SecretKey) []pathinfo.PublicKey {
	t.Helper()
	var list []pathinfo.PublicKey
	for _, k := range keys {
		p, err := pathinfo.ParsePublicKey(k.Public())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
	return list
}

// TestCompressedUploads puts a NAR in each compression, by the end of its name,
// by its beginning (as Nix's gzip), and as the encoding of the request.
func TestCompressedUploads(t *testing.T) {
	nar := treeNAR(t, 40_000)
	for _, tt := range []struct{ compression, suffix string }{
		{"zstd", ".zst"}, {"xz", ".xz"}, {"gzip", ".gz"}, {"bzip2", ".bz2"}, {"br", ".br"}, {"lz4", ".lz4"}, {"gzip", ""}, {"xz", ""}, {"zstd", ""}, {"bzip2", ""},
	} {
		t.Run(tt.compression+" as "+tt.suffix, func(t *testing.T) {
			b := newBridge(t, narbridge.Options{})
			file := compressed(t, tt.compression, nar)
			n := infoOf(nar, "tree")
			h := sha256.Sum256([]byte(file))
			n.FileHash, n.FileSize, n.Compression = &h, uint64(len(file)), tt.compression
			path := "/nar/" + sum(file) + ".nar" + tt.suffix
			if a := b.do("HEAD", path, nil); a.status != 404 {
				t.Errorf("HEAD before: %d", a.status)
			}
			b.put(path, file).want(t, "put", 200, "")
			if a := b.do("HEAD", path, nil); a.status != 200 || a.length != int64(len(file)) {
				t.Errorf("HEAD after: %d, length %d", a.status, a.length)
			}
			lying := *n
			lying.FileSize++
			b.put(infoPath(n), string(lying.Marshal())).want(t, "another FileSize", 400, "FileSize")
			b.put(infoPath(n), string(n.Marshal())).want(t, "put narinfo", 200, "")
			if a := b.get(b.narURL(n)); a.body != nar {
				t.Errorf("%d, %d bytes", a.status, len(a.body))
			}
		})
		t.Run(tt.compression+" on its way", func(t *testing.T) {
			b := newBridge(t, narbridge.Options{})
			n := infoOf(nar, "tree")
			b.put("/nar/"+sum(nar)+".nar", compressed(t, tt.compression, nar), "Content-Encoding", tt.compression).want(t, "put", 200, "")
			b.put(infoPath(n), compressed(t, tt.compression, string(n.Marshal())), "Content-Encoding", tt.compression).want(t, "put narinfo", 200, "")
			if a := b.get(b.narURL(n)); a.body != nar {
				t.Errorf("%d, %d bytes", a.status, len(a.body))
			}
		})
	}
	b := newBridge(t, narbridge.Options{})
	b.put("/nar/"+sum(nar)+".nar", nar, "Content-Encoding", "rar").want(t, "rar", 415, "not known")
	b.put("/nar/"+sum(nar)+".nar", nar, "Content-Encoding", "gzip").want(t, "not gzip", 400, "gzip")
}

// narString is a string of a NAR.
func narString(s string) string {
	return string([]byte{byte(len(s)), byte(len(s) >> 8), 0, 0, 0, 0, 0, 0}) + s + strings.Repeat("\x00", -len(s)&7)
}

func narStrings(list ...string) string {
	var b strings.Builder
	for _, s := range list {
		b.WriteString(narString(s))
	}
	return b.String()
}

// TestBadNARs holds that NARs with anything wrong are refused.
func TestBadNARs(t *testing.T) {
	good := treeNAR(t, 1000)
	entry := func(name string) string {
		return narStrings("entry", "(", "name", name, "node", "(", "type", "symlink", "target", "x", ")", ")")
	}
	dir := func(entries ...string) string {
		return narStrings("nix-archive-1", "(", "type", "directory") + strings.Join(entries, "") + narString(")")
	}
	deep := narString("nix-archive-1") + strings.Repeat(narStrings("(", "type", "directory", "entry", "(", "name", "d", "node"), 70_000)
	zeros := func(n int) string {
		return narStrings("nix-archive-1", "(", "type", "regular", "contents") + string([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24), 0, 0, 0, 0}) + strings.Repeat("\x00", n) + narStrings(")")
	}
	b := newBridge(t, narbridge.Options{MaxNARSize: 20 << 20})
	for _, tt := range []struct {
		name, suffix, file string
		status             int
		text               string
	}{
		{"empty", "", "", 400, "unexpected EOF"},
		{"no NAR", "", "hello, world! hello, world!", 400, "read NAR"},
		{"truncated", "", good[:len(good)-8], 400, "unexpected EOF"},
		{"truncated in a file", "", good[:len(good)-600], 400, "unexpected EOF"},
		{"something behind it", "", good + "x", 400, "behind"},
		{"unsorted", "", dir(entry("b"), entry("a")), 400, `"a"`},
		{"a name twice", "", dir(entry("a"), entry("a")), 400, `"a"`},
		{"..", "", dir(entry("..")), 400, `".."`},
		{"a slash", "", dir(entry("a/b")), 400, "a/b"},
		{"a long name", "", dir(entry(strings.Repeat("x", 256))), 400, "256"},
		{"too deep", "", deep, 400, "65536"},
		{"a file that is longer than all", "", good[:24] + narStrings("(", "type", "regular", "contents") + "\xff\xff\xff\xff\xff\xff\xff\x7f", 400, "EOF"},
		{"zstd that is cut", ".zst", compressed(t, "zstd", good)[:100], 400, "EOF"},
		{"not zstd", ".zst", good, 400, "cannot be read"},
		{"not xz", ".xz", good, 400, "cannot be read"},
		{"xz with something behind it", ".xz", compressed(t, "xz", good) + "xxxx", 400, "cannot be read"},
		{"gzip with something behind it", ".gz", compressed(t, "gzip", good) + "xxxx", 400, "cannot be read"},
		{"too large", "", zeros(20 << 20), 413, "too large"},
		{"too large when it is unpacked", ".zst", compressed(t, "zstd", zeros(24<<20)), 413, "too large"},
	} {
		b.put("/nar/"+sum(tt.file)+".nar"+tt.suffix, tt.file).want(t, tt.name, tt.status, tt.text)
		if a := b.do("HEAD", "/nar/"+sum(tt.file)+".nar"+tt.suffix, nil); a.status != 404 {
			t.Errorf("%s: HEAD answers %d", tt.name, a.status)
		}
		b.empty(tt.name)
	}
	b.put("/nar/"+sum("other")+".nar", good).want(t, "another hash", 400, "has the hash "+sum(good))
	b.put("/nar/"+sum("other")+".nar.xz", compressed(t, "xz", good)).want(t, "another hash of the file", 400, "not that of its name")
	if a := b.do("HEAD", "/nar/"+sum(good)+".nar", nil); a.status != 404 {
		t.Errorf("a refused NAR is known: %d", a.status)
	}
}

// TestBadNARInfos holds that narinfos with anything wrong are refused, and
// nothing is stored.
func TestBadNARInfos(t *testing.T) {
	trusted, stranger := testKey(t, "trusted-1"), testKey(t, "stranger-1")
	file := fileNAR(t, "Hello World!", false)
	const helloSHA256 = "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069"
	flat := func(hexHash string) *pathinfo.CA {
		raw, err := hex.DecodeString(hexHash)
		if err != nil {
			t.Fatal(err)
		}
		return &pathinfo.CA{Type: pathinfo.CAFlatSHA256, Digest: raw}
	}
	fixed := func(n *narinfo.NarInfo) { // as nix-store --add
		p, err := storepath.FromNARHash("x", n.NarHash)
		if err != nil {
			t.Fatal(err)
		}
		h := n.NarHash
		n.StorePath, n.CA = p, &pathinfo.CA{Type: pathinfo.CANARSHA256, Digest: h[:]}
	}
	flatPath := func(n *narinfo.NarInfo, ca *pathinfo.CA) {
		inner := sha256.Sum256([]byte("fixed:out:sha256:" + hex.EncodeToString(ca.Digest) + ":"))
		p, err := storepath.Make("output:out", inner, "x")
		if err != nil {
			t.Fatal(err)
		}
		n.StorePath, n.CA = p, ca
	}
	sign := func(n *narinfo.NarInfo, k pathinfo.SecretKey) {
		n.Signatures = append(n.Signatures, k.Sign(n.PathInfo(fileNode()).Fingerprint()))
	}
	var flip [32]byte
	for _, tt := range []struct {
		name   string
		change func(n *narinfo.NarInfo)
		status int
		text   string
	}{
		{"signed", func(n *narinfo.NarInfo) { sign(n, trusted) }, 200, ""},
		{"signed by two", func(n *narinfo.NarInfo) { sign(n, stranger); sign(n, trusted) }, 200, ""},
		{"addressed by content", fixed, 200, ""},
		{"addressed by the content of a file", func(n *narinfo.NarInfo) { flatPath(n, flat(helloSHA256)) }, 200, ""},
		{"refers to itself", func(n *narinfo.NarInfo) { n.References = []storepath.StorePath{n.StorePath}; sign(n, trusted) }, 200, ""},
		{"not signed", func(*narinfo.NarInfo) {}, 403, "no signature"},
		{"signed by a stranger", func(n *narinfo.NarInfo) { sign(n, stranger) }, 403, "stranger-1"},
		{"signature of something else", func(n *narinfo.NarInfo) { n.NarSize++; sign(n, trusted); n.NarSize-- }, 400, "does not hold"},
		{"NarHash", func(n *narinfo.NarInfo) { n.NarHash = flip; n.FileHash = &flip }, 400, "not uploaded here"},
		{"NarHash of another file", func(n *narinfo.NarInfo) { h := n.NarHash; n.FileHash = &h; n.NarHash = flip }, 400, "NarHash"},
		{"FileHash", func(n *narinfo.NarInfo) { n.FileHash = &flip; n.Compression = "xz" }, 400, "not uploaded here"},
		{"NarSize", func(n *narinfo.NarInfo) { n.NarSize++ }, 400, "128 bytes and not 129"},
		{"FileSize", func(n *narinfo.NarInfo) { n.FileSize++ }, 400, "FileSize"},
		{"FileSize without FileHash", func(n *narinfo.NarInfo) { n.FileSize++; n.FileHash = nil }, 400, "FileSize"},
		{"reference", func(n *narinfo.NarInfo) {
			n.References = []storepath.StorePath{infoOf(file, "none").StorePath}
			sign(n, trusted)
		}, 400, "which is not in the store"},
		{"CA of another path", func(n *narinfo.NarInfo) { p := n.StorePath; fixed(n); n.StorePath.Hash = p.Hash }, 400, "content address"},
		{"CA of another NAR", func(n *narinfo.NarInfo) {
			p, _ := storepath.FromNARHash("x", flip)
			n.StorePath, n.CA = p, &pathinfo.CA{Type: pathinfo.CANARSHA256, Digest: flip[:]}
		}, 400, "not the hash of the NAR"},
		{"CA of another file", func(n *narinfo.NarInfo) { flatPath(n, flat(strings.Repeat("00", 32))) }, 400, "another hash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBridge(t, narbridge.Options{TrustedKeys: publicKeys(t, trusted), RequireSignature: true})
			n := infoOf(file, "x")
			tt.change(n)
			b.put("/nar/"+sum(file)+".nar", file).want(t, "put NAR", 200, "")
			a := b.put(infoPath(n), string(n.Marshal()))
			a.want(t, "put narinfo", tt.status, tt.text)
			if tt.status != 200 {
				b.empty(tt.name)
				return
			}
			if a := b.get(b.narURL(n)); a.body != file {
				t.Errorf("%d", a.status)
			}
		})
	}
	b := newBridge(t, narbridge.Options{})
	b.put("/nar/"+sum(file)+".nar", file).want(t, "put NAR", 200, "")
	n := infoOf(file, "x")
	text := string(n.Marshal())
	b.put("/"+strings.Repeat("0", 32)+".narinfo", text).want(t, "another hash in the URL", 400, "is that of")
	b.put(infoPath(n), text+"Sig: \xff").want(t, "not UTF-8", 400, "UTF-8")
	b.put(infoPath(n), text+strings.Repeat("X: y\n", 1<<20)).want(t, "too long", 400, "longer than")
	b.put(infoPath(n), strings.Replace(text, "/nix/store/", "/gnu/store/", 1)).want(t, "another store", 400, "not below")
	b.put(infoPath(n), "").want(t, "empty", 400, "no StorePath")
	b.empty("all")
}

// TestConflict holds that a path is not replaced by another of its name, while
// signatures may be added.
func TestConflict(t *testing.T) {
	b := newBridge(t, narbridge.Options{})
	one, two := fileNAR(t, "one", false), fileNAR(t, "two", false)
	n := infoOf(one, "x")
	b.mustPut(one, n)
	b.put("/nar/"+sum(two)+".nar", two).want(t, "put NAR", 200, "")
	b.put(infoPath(n), string(infoOf(two, "x").Marshal())).want(t, "other contents", 409, "remove it first")
	renamed := *n
	renamed.StorePath.Name = "y"
	b.put(infoPath(n), string(renamed.Marshal())).want(t, "another name", 409, "whose hash is that of")
	for i, name := range []string{"a-1", "b-1", "a-1"} {
		got, err := narinfo.Parse([]byte(b.get(infoPath(n)).body)) // as 'nix store sign'
		if err != nil {
			t.Fatal(err)
		}
		got.Signatures = []pathinfo.Signature{testKey(t, name).Sign(got.PathInfo(fileNode()).Fingerprint())}
		b.put(infoPath(n), string(got.Marshal())).want(t, "sign", 200, "")
		if sigs := strings.Count(b.get(infoPath(n)).body, "Sig: "); sigs != min(i+1, 2) {
			t.Errorf("%d signatures after %d puts", sigs, i+1)
		}
	}
	if a := b.get(b.narURL(n)); a.body != one {
		t.Error("other contents are stored")
	}
}

// TestAuthorization holds who may write.
func TestAuthorization(t *testing.T) {
	b := newBridge(t, narbridge.Options{Token: "secret"})
	nar := fileNAR(t, "x", false)
	n := infoOf(nar, "x")
	basic := func(password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:"+password))
	}
	for _, path := range []string{"/nar/" + sum(nar) + ".nar", infoPath(n), strings.Replace(infoPath(n), ".narinfo", ".ls", 1)} {
		for _, header := range []string{"", "Bearer other", "Bearer", "Bearer secretx", basic("other"), basic(""), "secret", "Token secret"} {
			a := b.put(path, nar, "Authorization", header)
			a.want(t, path+" "+header, 401, "token")
			if a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s %s: no WWW-Authenticate", path, header)
			}
		}
	}
	b.empty("without token")
	b.mustPut(nar, n, "Authorization", "Bearer secret")
	b.mustPut(nar, n, "Authorization", basic("secret"))
	if a := b.get(b.narURL(n)); a.body != nar {
		t.Errorf("reading needs no token: %d", a.status)
	}
	open := newBridge(t, narbridge.Options{})
	open.put("/nar/"+sum(nar)+".nar", nar, "Origin", "http://evil.example").want(t, "a web page", 403, "web pages")
}

// TestForgotten holds that a narinfo whose tree has gone is refused, and that the
// NAR can be put again.
func TestForgotten(t *testing.T) {
	whole := newBridge(t, narbridge.Options{})
	nar := treeNAR(t, 1000)
	n := infoOf(nar, "x")
	whole.put("/nar/"+sum(nar)+".nar", nar).want(t, "put NAR", 200, "")
	// Another store, with the same table: what a collection leaves.
	store := guarded(t)
	b := serve(t, store, narbridge.Options{Uploads: whole.table})
	if a := b.do("HEAD", "/nar/"+sum(nar)+".nar", nil); a.status != 404 {
		t.Errorf("HEAD: %d", a.status)
	}
	b.put(infoPath(n), string(n.Marshal())).want(t, "put narinfo", 400, "put it again")
	b.empty("collected")
	b.mustPut(nar, n)
	if a := b.get(b.narURL(n)); !bytes.Equal([]byte(a.body), []byte(nar)) {
		t.Errorf("%d", a.status)
	}
}
