package castore

import (
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/zeebo/blake3"
)

func mustDigest(t testing.TB, s string) Digest {
	t.Helper()
	d, err := ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustDirectory(t testing.TB, entries ...Entry) *Directory {
	t.Helper()
	d, err := NewDirectory(entries)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func file(name string, d Digest, size uint64) Entry {
	return Entry{name, Node{Kind: KindFile, Digest: d, Size: size}}
}

func symlink(name, target string) Entry {
	return Entry{name, Node{Kind: KindSymlink, Target: target}}
}

func sub(name string, d *Directory) Entry { return Entry{name, d.Node()} }

// subOnce refers to d by the older count, in which each entry counts once.
func subOnce(name string, d *Directory, size uint64) Entry {
	n := d.Node()
	n.Size = size
	return Entry{name, n}
}

// The vectors are those of spec/store.md 8, computed independently. They are by
// the older count; what tvix and snix make today, and we with them, comes after.
func TestDirectoryVectors(t *testing.T) {
	a := mustDirectory(t)
	keep := mustDirectory(t, file(".keep", EmptyBlob, 0))
	complicated := mustDirectory(t, symlink("aa", "/nix/store/somewhereelse"), subOnce("keep", keep, 1), file(".keep", EmptyBlob, 0))
	b := mustDirectory(t, sub("a", a))
	today := mustDirectory(t, symlink("aa", "/nix/store/somewhereelse"), sub("keep", keep), file(".keep", EmptyBlob, 0))
	const empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	tests := []struct {
		name   string
		dir    *Directory
		digest string
		size   uint64
		prefix string // of the encoding, in hex
		length int    // of the encoding; -1: not given
	}{
		{"A", a, empty, 0, "", 0},
		{"KEEP", keep, "8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e", 1, "12290a052e6b6565701220" + empty, 43},
		{"COMPLICATED", complicated, "3f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a", 4, "0a2a0a046b656570", 119},
		{"B", b, "8701f4722d8dae7f2c40fa003331b8437a3825f9e1bfd3a77998c64cc226b9cc", 1, "0a250a01611220" + empty, 39},
		{"C", mustDirectory(t, sub("a'", a), sub("a", a)), "78eb200ae0cc95d4ea954655fbcf91e285013a261310e161927f2401d2bca803", 2, "", -1},
		{"D", mustDirectory(t, subOnce("b", b, 1), sub("a", a)), "99922a5c1801805287a647af73bca0ed7352a5f7f373e54992795bcc4a235213", 3, "", -1},
		{"COMPLICATED today", today, "424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb", 8, "0a2a0a046b656570", 119},
		{"D today", mustDirectory(t, sub("b", b), sub("a", a)), "76cd8b55b37333961c1778ba997e57df92e219926ae5a66c414b810331a77603", 6, "", -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.dir.Digest().Hex(); got != tt.digest {
				t.Errorf("digest %s, want %s", got, tt.digest)
			}
			if size := tt.dir.Size(); !tt.dir.HasSize(tt.size) || tt.dir.HasSize(size+1) || size > 0 && tt.dir.HasSize(size-uint64(len(tt.dir.Entries()))-1) {
				t.Errorf("size %d, want %d", size, tt.size)
			}
			enc := tt.dir.Encoded()
			if !strings.HasPrefix(hex.EncodeToString(enc), tt.prefix) || tt.length >= 0 && len(enc) != tt.length {
				t.Errorf("encoding %x", enc)
			}
			back, err := ParseDirectory(enc)
			if err != nil {
				t.Fatal(err)
			}
			if back.Digest() != tt.dir.Digest() || back.Size() != tt.dir.Size() || len(back.Entries()) != len(tt.dir.Entries()) {
				t.Errorf("parsed back: %+v", back)
			}
		})
	}
}

func TestEntryVectors(t *testing.T) {
	hello := Digest(blake3.Sum256([]byte("Hello World!")))
	keep := mustDirectory(t, file(".keep", EmptyBlob, 0))
	complicated := mustDirectory(t, symlink("aa", "/nix/store/somewhereelse"), subOnce("keep", keep, 1), file(".keep", EmptyBlob, 0))
	for _, tt := range []struct {
		e    Entry
		want string
	}{
		{file("", hello, 12), "122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c"},
		{Entry{"", Node{Kind: KindFile, Digest: hello, Size: 12, Executable: true}}, "122612205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c2001"},
		{subOnce("", complicated, 4), "0a2412203f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a1804"},
		{symlink("", "/nix/store/somewhereelse"), "1a1a12182f6e69782f73746f72652f736f6d657768657265656c7365"},
	} {
		if got := hex.EncodeToString(AppendEntry(nil, tt.e)); got != tt.want {
			t.Errorf("%v: got %s, want %s", tt.e, got, tt.want)
		}
		raw, _ := hex.DecodeString(tt.want)
		if e, err := ParseEntry(raw); err != nil || e != tt.e {
			t.Errorf("ParseEntry(%s) = %v, %v", tt.want, e, err)
		}
	}
}

func TestLookup(t *testing.T) {
	d := mustDirectory(t, file("b", EmptyBlob, 0), symlink("a", "b"), sub("c", mustDirectory(t)))
	for name, kind := range map[string]Kind{"a": KindSymlink, "b": KindFile, "c": KindDirectory} {
		if n, ok := d.Lookup(name); !ok || n.Kind != kind {
			t.Errorf("Lookup(%q) = %v, %v", name, n, ok)
		}
	}
	for _, name := range []string{"", "A", "aa", "d"} {
		if _, ok := d.Lookup(name); ok {
			t.Errorf("Lookup(%q) finds something", name)
		}
	}
	for i, want := range []string{"a", "b", "c"} {
		if got := d.Entries()[i].Name; got != want {
			t.Errorf("entry %d is %q, want %q", i, got, want)
		}
	}
}

func TestNewDirectoryRefuses(t *testing.T) {
	dir := func(name string, size uint64) Entry { return Entry{name, Node{Kind: KindDirectory, Size: size}} }
	for _, tt := range []struct {
		name    string
		entries []Entry
		err     string
	}{
		{"empty name", []Entry{file("", EmptyBlob, 0)}, "empty name"},
		{"dot", []Entry{file(".", EmptyBlob, 0)}, "not allowed"},
		{"dot dot", []Entry{file("..", EmptyBlob, 0)}, "not allowed"},
		{"slash", []Entry{file("a/b", EmptyBlob, 0)}, "slash"},
		{"NUL", []Entry{file("a\x00b", EmptyBlob, 0)}, "NUL"},
		{"256 bytes", []Entry{file(strings.Repeat("n", 256), EmptyBlob, 0)}, "longer than 255"},
		{"same name, two kinds", []Entry{file("a", EmptyBlob, 0), symlink("a", "b")}, "twice"},
		{"empty target", []Entry{symlink("a", "")}, "empty target"},
		{"long target", []Entry{symlink("a", strings.Repeat("t", 4096))}, "longer than 4095"},
		{"NUL in target", []Entry{symlink("a", "b\x00")}, "NUL"},
		{"unknown kind", []Entry{{"a", Node{Kind: 4}}}, "unknown kind"},
		{"no kind", []Entry{{"a", Node{}}}, "unknown kind"},
		{"executable directory", []Entry{{"a", Node{Kind: KindDirectory, Executable: true}}}, "cannot have"},
		{"symlink with size", []Entry{{"a", Node{Kind: KindSymlink, Target: "b", Size: 1}}}, "cannot have"},
		{"too large", []Entry{dir("a", math.MaxUint64)}, "64 bits"},
		{"too many in sum", []Entry{dir("a", math.MaxUint64/2), dir("b", math.MaxUint64/2+1)}, "64 bits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := NewDirectory(tt.entries); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	// The longest that is allowed.
	mustDirectory(t, symlink(strings.Repeat("n", 255), strings.Repeat("t", 4095)), file("\xff", EmptyBlob, math.MaxUint64), dir("d", math.MaxUint64-6))
}

// TestParseDirectoryRefuses holds that no other encoding than the canonical one
// is taken: a digest would name two byte strings.
func TestParseDirectoryRefuses(t *testing.T) {
	digest := strings.Repeat("11", 32)
	entry := "0a0161" + "1220" + digest // name "a" and a digest
	entryB := "0a0162" + "1220" + digest
	for _, tt := range []struct{ name, hex, err string }{
		{"garbage", "ff", "EOF"},
		{"cut short", "1225" + entry[:20], "EOF"},
		{"unknown field", "2200", "unknown field 4"},
		{"field of another type", "0801", "unknown field 1"},
		{"unknown field in an entry", "1227" + entry + "2a00", "unknown field 5"},
		{"fixed 32 in an entry", "122a" + entry + "1d00000000", "wire type"},
		{"descending", "1225" + entryB + "1225" + entry, "canonical"},
		{"twice", "1225" + entry + "1225" + entry, "twice"},
		{"files before directories", "1225" + entryB + "0a25" + entry, "canonical"},
		{"explicit size 0", "1227" + entry + "1800", "canonical"},
		{"explicit executable 0", "1227" + entry + "2000", "canonical"},
		{"executable 2", "1227" + entry + "2002", "canonical"},
		{"overlong size", "1228" + entry + "188100", "canonical"},
		{"overlong length", "12a500" + entry, "canonical"},
		{"overlong tag", "928000" + "25" + entry, "canonical"},
		{"digest before name", "1225" + "1220" + digest + "0a0161", "canonical"},
		{"two names", "1228" + "0a0161" + entry, "canonical"},
		{"no name", "1222" + "1220" + digest, "empty name"},
		{"no digest", "1203" + "0a0161", "no digest"},
		{"short digest", "1224" + "0a0161" + "121f" + digest[2:], "31 bytes"},
		{"executable directory", "0a27" + entry + "2001", "unknown field 4"},
		{"symlink without target", "1a03" + "0a0161", "empty target"},
		{"symlink with size", "1a08" + "0a0161" + "120162" + "1801", "unknown field 3"},
		{"too large", "0a30" + entry + "18ffffffffffffffffff01", "64 bits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseDirectory(raw); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func FuzzParseDirectory(f *testing.F) {
	keep := mustDirectory(f, file(".keep", EmptyBlob, 0))
	seeds := []*Directory{
		mustDirectory(f), keep,
		mustDirectory(f, symlink("aa", "/nix/store/somewhereelse"), sub("keep", keep), file(".keep", EmptyBlob, 0)),
		mustDirectory(f, Entry{"x", Node{Kind: KindFile, Executable: true, Size: math.MaxUint64}}),
	}
	for _, d := range seeds {
		if _, err := ParseDirectory(d.Encoded()); err != nil {
			f.Fatalf("a seed does not reach the end of the parser: %v", err)
		}
		f.Add(d.Encoded())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseDirectory(b)
		if err != nil {
			return
		}
		if string(d.Encoded()) != string(b) {
			t.Fatalf("accepted %x and encodes it as %x", b, d.Encoded())
		}
		for _, e := range d.Entries() {
			if n, ok := d.Lookup(e.Name); !ok || n != e.Node {
				t.Fatalf("Lookup(%q) = %v, %v", e.Name, n, ok)
			}
			back, err := ParseEntry(AppendEntry(nil, e))
			if err != nil || back != e {
				t.Fatalf("ParseEntry of %v: %v, %v", e, back, err)
			}
		}
	})
}

func FuzzParseEntry(f *testing.F) {
	for _, e := range []Entry{file("", EmptyBlob, 12), symlink("a", "b"), sub("d", mustDirectory(f))} {
		if _, err := ParseEntry(AppendEntry(nil, e)); err != nil {
			f.Fatal(err)
		}
		f.Add(AppendEntry(nil, e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParseEntry(b); err == nil && string(AppendEntry(nil, e)) != string(b) {
			t.Fatalf("accepted %x and encodes it as %x", b, AppendEntry(nil, e))
		}
	})
}
