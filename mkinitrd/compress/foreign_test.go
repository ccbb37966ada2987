package compress

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// bzip2Sample is "bzip2 test\n", packed by: bzip2 -9 | xxd -p
const bzip2Sample = "425a683931415926535910292cd5000001d98000104000100012204c102000310030299a0f482d49831f0bb9229c28480814966a80"

// foreign packs data with each codec that this package only reads.
func foreign(t testing.TB, data []byte) map[Codec][]byte {
	t.Helper()
	out := map[Codec][]byte{}
	add := func(c Codec, w io.WriteCloser, err error, b *bytes.Buffer) {
		if err == nil {
			_, err = w.Write(data)
		}
		if err == nil {
			err = w.Close()
		}
		if err != nil {
			t.Fatal(c, err)
		}
		out[c] = b.Bytes()
	}
	var b, l bytes.Buffer
	x, err := xz.WriterConfig{CheckSum: xz.CRC32, BlockSize: 1000, DictCap: 4096}.NewWriter(&b)
	add(XZ, x, err, &b)
	z, err := lzma.WriterConfig{EOSMarker: true, DictCap: 4096}.NewWriter(&l)
	add(LZMA, z, err, &l)

	packed := make([]byte, lz4.CompressBlockBound(len(data)))
	n, err := new(lz4.Compressor).CompressBlock(data, packed)
	if err != nil {
		t.Fatal(err)
	}
	four := binary.LittleEndian.AppendUint32(nil, lz4Magic)
	four = binary.LittleEndian.AppendUint32(four, uint32(n))
	out[LZ4] = append(four, packed[:n]...)
	return out
}

func unpackAll(b []byte) (data, rest []byte, c Codec, err error) {
	br := bufio.NewReader(bytes.NewReader(b))
	r, c, err := NewReader(br)
	if err != nil {
		return nil, nil, c, err
	}
	data, err = io.ReadAll(r)
	rest, _ = io.ReadAll(br)
	return data, rest, c, errors.Join(err, r.Close())
}

// TestForeign holds that a reader ends with the stream: what follows stays.
func TestForeign(t *testing.T) {
	data := text(5000)
	for want, packed := range foreign(t, data) {
		for _, follow := range []string{"", "\x00\x00\x00\x00070701", "\x00\x00\x00\x00\x00\x1f\x8b"} {
			got, rest, c, err := unpackAll(append(bytes.Clone(packed), follow...))
			if err != nil || c != want || !bytes.Equal(got, data) || string(rest) != follow {
				t.Errorf("%s before %q: codec %s, %d bytes, rest %q, %v", want, follow, c, len(got), rest, err)
			}
		}
	}
	b, err := hex.DecodeString(bzip2Sample)
	if err != nil {
		t.Fatal(err)
	}
	for _, follow := range []string{"", "\x00\x00\x00\x00070701", "070701", "\x00"} {
		got, rest, c, err := unpackAll(append(bytes.Clone(b), follow...))
		if follow == "\x00" {
			// One byte is too short for the library to say that it is no stream.
			if err == nil || string(got) != "bzip2 test\n" {
				t.Errorf("bzip2 before one zero byte: %q, %v", got, err)
			}
			continue
		}
		if err != nil || c != Bzip2 || string(got) != "bzip2 test\n" || string(rest) != follow {
			t.Errorf("bzip2 before %q: codec %s, %q, rest %q, %v", follow, c, got, rest, err)
		}
	}
}

func TestForeignTruncation(t *testing.T) {
	data := text(3000)
	all := foreign(t, data)
	b, err := hex.DecodeString(bzip2Sample)
	if err != nil {
		t.Fatal(err)
	}
	all[Bzip2] = b
	for c, packed := range all {
		step := 1
		if testing.Short() {
			step = 7
		}
		for n := 8; n < len(packed); n += step {
			got, _, _, err := unpackAll(packed[:n])
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%s: %d of %d bytes: %d unpacked, error %v, want unexpected EOF", c, n, len(packed), len(got), err)
			}
		}
	}
}

func TestForeignDamage(t *testing.T) {
	data := text(3000)
	for c, packed := range foreign(t, data) {
		if c != XZ {
			continue // the others have no checksum
		}
		for i := range packed {
			bad := bytes.Clone(packed)
			bad[i] ^= 0x10
			// The library does not hold a chunk to its packed size.
			if got, _, _, err := unpackAll(bad); err == nil && !bytes.Equal(got, data) {
				t.Errorf("%s: byte %d changed: %d other bytes and no error", c, i, len(got))
			}
		}
	}
	// A block that claims to be longer than any.
	if _, _, _, err := unpackAll([]byte("\x02\x21\x4c\x18\x1f\x8b\x08\x08")); err == nil || !strings.Contains(err.Error(), "zero bytes between") {
		t.Errorf("lz4 before gzip: %v", err)
	}
}

// TestForeignTools reads what the usual commands make.
func TestForeignTools(t *testing.T) {
	data := text(1 << 20)
	if testing.Short() {
		data = data[:100_000]
	}
	for _, tt := range []struct {
		codec Codec
		args  string
	}{
		{XZ, "xz -1 --check=crc32"}, {XZ, "xz -1 --check=none"}, {XZ, "xz -1 --check=crc64 --block-size=30000"},
		{XZ, "xz -1 --check=sha256 -T2"}, {LZMA, "xz -1 --format=lzma"}, {Bzip2, "bzip2 -1"}, {LZ4, "lz4 -l -1"},
		{Gzip, "gzip -9n"}, {Zstd, "zstd -q -9 --no-check"},
	} {
		args := strings.Fields(tt.args)
		if _, err := exec.LookPath(args[0]); err != nil {
			t.Logf("SKIP: this machine lacks %s", args[0])
			continue
		}
		cmd := exec.Command(args[0], append(args[1:], "-c")...)
		cmd.Stdin = bytes.NewReader(data)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", tt.args, err)
		}
		got, rest, c, err := unpackAll(append(packed, "\x00\x00\x00\x00rest"...))
		if err != nil || c != tt.codec || !bytes.Equal(got, data) || strings.TrimLeft(string(rest), "\x00") != "rest" {
			t.Errorf("%s: codec %s, %d bytes, %d left, %v", tt.args, c, len(got), len(rest), err)
		}
	}
	// Filters in front of LZMA2 are named.
	if _, err := exec.LookPath("xz"); err == nil {
		cmd := exec.Command("xz", "--x86", "--lzma2=preset=1", "-c")
		cmd.Stdin = bytes.NewReader(data[:1000])
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := unpackAll(packed); err == nil || !strings.Contains(err.Error(), "filter") {
			t.Errorf("xz --x86: %v", err)
		}
	}
}

func FuzzForeign(f *testing.F) {
	data := text(3000)
	for _, seed := range foreign(f, data) {
		if got, _, _, err := unpackAll(seed); err != nil || !bytes.Equal(got, data) {
			f.Fatalf("a seed does not reach the code: %v", err)
		}
		f.Add(seed)
	}
	b, err := hex.DecodeString(bzip2Sample)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, data []byte) {
		br := bufio.NewReader(bytes.NewReader(data))
		r, _, err := NewReader(br)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		_ = r.Close()
	})
}
