package objectstore

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
)

func TestParseIndex(t *testing.T) {
	d := bytes.Repeat([]byte{7}, 32)
	field := func(number byte, data []byte) []byte { return append([]byte{number<<3 | 2, byte(len(data))}, data...) }
	for _, tt := range []struct {
		name  string
		index []byte
		want  string
	}{
		{"cut tag", []byte{0x80}, "EOF"},
		{"cut chunk", []byte{0x12, 9, 1}, "EOF"},
		{"chunk as a number", []byte{0x10, 1}, "wire type"},
		{"no digest", field(2, []byte{0x10, 5}), "no digest"},
		{"no size", field(2, field(1, d)), "no size"},
		{"short digest", field(2, field(1, d[:31])), "31 bytes"},
		{"too large", field(2, append(field(1, d), 0x10, 0x81, 0x80, 0x80, 0x08)), "16777217"},
		{"cut size", field(2, append(field(1, d), 0x10, 0x80)), "EOF"},
		{"cut unknown field", []byte{0x1a, 5, 1}, "EOF"},
		{"group that does not end", []byte{0x1b}, "EOF"},
	} {
		if chunks, err := parseIndex(tt.index); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, error %v, want %q", tt.name, chunks, err, tt.want)
		}
	}
	if chunks, err := parseIndex(nil); chunks != nil || err != nil {
		t.Errorf("no bytes: %v, %v", chunks, err)
	}
}

func FuzzParseIndex(f *testing.F) {
	seeds := [][]byte{
		encodeIndex([]chunkMeta{{castore.Digest{1}, 1}, {castore.Digest{2}, maxChunk}}),
		append(encodeIndex([]chunkMeta{{castore.Digest{3}, 300}}), 0x1a, 3, 'b', 'a', 'o'),
		{},
	}
	for i, seed := range seeds {
		if chunks, err := parseIndex(seed); err != nil || len(chunks) != 2-i {
			f.Fatalf("seed %d: %v, %v", i, chunks, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		chunks, err := parseIndex(b)
		if err != nil {
			return
		}
		for _, c := range chunks {
			if c.size <= 0 || c.size > maxChunk {
				t.Errorf("chunk of %d bytes", c.size)
			}
		}
		again, err := parseIndex(encodeIndex(chunks))
		if err != nil || !slices.Equal(again, chunks) {
			t.Errorf("%v becomes %v, %v", chunks, again, err)
		}
	})
}

// records are the contents of a dirs/ object.
func records(dirs ...*castore.Directory) []byte {
	var b []byte
	for _, d := range dirs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(d.Encoded())))
		b = append(b, d.Encoded()...)
	}
	return b
}

func compress(t testing.TB, plain []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(plain, nil)
}

func TestParseBundle(t *testing.T) {
	a := castoretest.NewDirectory(t)
	b := castoretest.NewDirectory(t, castoretest.Sub("a", a))
	root := castoretest.NewDirectory(t, castoretest.Sub("a", a), castoretest.Sub("b", b))
	for _, order := range [][]*castore.Directory{{root, a, b}, {root, b, a}} {
		got, err := parseBundle(root.Digest(), compress(t, records(order...)))
		if err != nil || len(got.dirs) != 3 || got.order[0].Digest() != root.Digest() {
			t.Errorf("bundle %+v, %v", got, err)
		}
	}
	good := records(root, b, a)
	for _, tt := range []struct {
		name   string
		stored []byte
		want   string
	}{
		{"nothing", nil, "missing"},
		{"no zstd", []byte("hello, world"), "magic"},
		{"cut zstd", compress(t, good)[:20], "EOF"},
		{"a directory is missing", compress(t, records(root, b)), "missing"},
		{"a directory twice", compress(t, records(root, b, a, a)), "twice"},
		{"a directory before its parent", compress(t, records(b, root, a)), "not referred to"},
		{"a stranger", compress(t, records(root, b, a, castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}}))), "not referred to"},
		{"cut record", compress(t, good[:len(good)-10]), "EOF"},
		{"cut length", compress(t, append(good, 0, 0)), "EOF"},
		{"long record", compress(t, []byte{0xff, 0xff, 0xff, 0xff}), "at most"},
		{"record longer than what is there", compress(t, []byte{1, 0, 0, 0, 1, 2}), "EOF"},
		{"no directory", compress(t, []byte{0, 0, 0, 2, 1, 2}), "record 0"},
	} {
		if got, err := parseBundle(root.Digest(), tt.stored); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %+v, error %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func FuzzParseBundle(f *testing.F) {
	a := castoretest.NewDirectory(f)
	b := castoretest.NewDirectory(f, castoretest.Sub("a", a))
	root := castoretest.NewDirectory(f, castoretest.Sub("a", a), castoretest.Sub("b", b))
	f.Add(records(root, b, a), true)
	f.Add(records(root, b), true)
	f.Add(compress(f, records(root, a, b)), false)
	f.Add([]byte{0xff, 0xff, 0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, stored []byte, plain bool) {
		if plain {
			stored = compress(t, stored)
		}
		got, err := parseBundle(root.Digest(), stored)
		if err == nil && (len(got.dirs) != 3 || got.order[0].Digest() != root.Digest()) {
			t.Errorf("another tree: %+v", got)
		}
	})
}
