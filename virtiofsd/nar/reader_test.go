package nar

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"
)

// rewrite reads a NAR and writes what was read.
func rewrite(r io.Reader, w io.Writer) error {
	in, out := NewReader(r), NewWriter(w)
	depth := 0
	for {
		e, err := in.Next()
		if err == io.EOF {
			return out.Close()
		}
		if err != nil {
			return err
		}
		if e.Kind == EndDirectory {
			depth--
			if err := out.EndDirectory(); err != nil {
				return err
			}
			continue
		}
		if depth > 0 {
			if err := out.Entry(e.Name); err != nil {
				return err
			}
		}
		switch e.Kind {
		case Directory:
			depth++
			err = out.Directory()
		case Symlink:
			err = out.Symlink(e.Target)
		case File:
			if err = out.File(e.Size, e.Executable); err == nil {
				_, err = io.Copy(out, in)
			}
		}
		if err != nil {
			return err
		}
	}
}

// sample is an archive with one of each thing.
func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	err := write(&b, directory,
		entry("a"), file("contents", false),
		entry("b"), directory, entry("deeper"), directory, endDirectory, entry("x"), file("#!/bin/sh\n", true), endDirectory,
		entry("empty"), file("", false),
		entry("large"), file(strings.Repeat("0123456789abcdef", 5000)+"x", false),
		entry("link"), symlink("/nix/store/somewhere"),
		entry(strings.Repeat("n", maxName)), symlink(strings.Repeat("t", maxTarget)),
		endDirectory)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReaderRoundTrip(t *testing.T) {
	roots := map[string][]func(*Writer) error{
		"file": {file("x", false)}, "executable": {file("12345678", true)}, "empty file": {file("", false)},
		"symlink": {symlink("target")}, "empty directory": {directory, endDirectory},
	}
	archives := map[string][]byte{"sample": sample(t)}
	for name, calls := range roots {
		var b bytes.Buffer
		if err := write(&b, calls...); err != nil {
			t.Fatal(err)
		}
		archives[name] = b.Bytes()
	}
	for name, archive := range archives {
		for how, r := range map[string]io.Reader{"whole": bytes.NewReader(archive), "bytes": iotest.OneByteReader(bytes.NewReader(archive))} {
			var out bytes.Buffer
			if err := rewrite(r, &out); err != nil || !bytes.Equal(out.Bytes(), archive) {
				t.Errorf("%s, %s: %v, %d bytes, want %d", name, how, err, out.Len(), len(archive))
			}
		}
		// Contents that are not read are skipped.
		r := NewReader(bytes.NewReader(archive))
		for {
			if _, err := r.Next(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
}

// TestReaderTruncated holds that an archive that is cut anywhere is never taken
// for a whole one.
func TestReaderTruncated(t *testing.T) {
	archive := sample(t)
	for n := range archive {
		if n > 3000 && n < len(archive)-6000 && n%997 != 0 {
			continue // in the contents of one large file
		}
		err := rewrite(bytes.NewReader(archive[:n]), io.Discard)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("cut after %d bytes: %v", n, err)
		}
	}
	failure := errors.New("disk on fire")
	r := io.MultiReader(bytes.NewReader(archive[:100]), iotest.ErrReader(failure))
	if err := rewrite(r, io.Discard); !errors.Is(err, failure) {
		t.Errorf("a reader that fails: %v", err)
	}
}

// words is a NAR of words in their form.
func words(list ...string) []byte {
	var b []byte
	for _, s := range list {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
		b = append(b, make([]byte, padding(uint64(len(s))))...)
	}
	return b
}

func TestReaderRefuses(t *testing.T) {
	entryOf := func(name string) []string {
		return []string{"entry", "(", "name", name, "node", "(", "type", "symlink", "target", "t", ")", ")"}
	}
	dir := func(entries ...[]string) []byte {
		list := []string{magic, "(", "type", "directory"}
		for _, e := range entries {
			list = append(list, e...)
		}
		return words(append(list, ")")...)
	}
	huge := append(words(magic, "(", "type", "regular", "contents"), bytes.Repeat([]byte{0xff}, 8)...)
	badPad := words(magic, "(", "type", "symlink", "target", "t", ")")
	badPad[bytes.Index(badPad, []byte("symlink"))+7] = 1
	badContents := words(magic, "(", "type", "regular", "contents", "x", ")")
	badContents[bytes.LastIndexByte(badContents, 'x')+3] = 1
	for _, tt := range []struct {
		name string
		in   []byte
		err  string
	}{
		{"text", []byte("this is no archive at all, it is text\n"), "not a NAR"},
		{"other magic", words("nix-archive-2"), "not a NAR"},
		{"trailing", append(words(magic, "(", "type", "symlink", "target", "t", ")"), 0), "behind its end"},
		{"type", words(magic, "(", "type", "fifo", ")"), "fifo"},
		{"no contents", words(magic, "(", "type", "regular", ")"), "contents"},
		{"executable with a value", words(magic, "(", "type", "regular", "executable", "1", "contents", "", ")"), `""`},
		{"executable twice", words(magic, "(", "type", "regular", "executable", "", "executable", "", "contents", "", ")"), "contents"},
		{"huge file", huge, "too large"},
		{"padding", badPad, "padding"},
		{"padding of contents", badContents, "padding"},
		{"long word", append(words(magic, "("), 0, 0, 0, 0, 0, 0, 0, 1), "at most 13"},
		{"name", dir(entryOf("a/b")), "not allowed"},
		{"dot", dir(entryOf(".")), "not allowed"},
		{"dots", dir(entryOf("..")), "not allowed"},
		{"empty name", dir(entryOf("")), "not allowed"},
		{"NUL", dir(entryOf("a\x00b")), "not allowed"},
		{"long name", dir(entryOf(strings.Repeat("n", 256))), "at most 255"},
		{"order", dir(entryOf("b"), entryOf("a")), "comes after"},
		{"twice", dir(entryOf("a"), entryOf("a")), "comes after"},
		{"empty target", words(magic, "(", "type", "symlink", "target", "", ")"), "target"},
		{"long target", words(magic, "(", "type", "symlink", "target", strings.Repeat("t", 4096), ")"), "at most 4095"},
		{"deep", append(words(magic), bytes.Repeat(words("(", "type", "directory", "entry", "(", "name", "d", "node"), MaxDepth+1)...), "in one another"},
	} {
		err := rewrite(bytes.NewReader(tt.in), io.Discard)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
}

// TestReaderStaysBroken holds that nothing is read after an error.
func TestReaderStaysBroken(t *testing.T) {
	r := NewReader(bytes.NewReader(words(magic, "(", "type", "fifo", ")")))
	_, first := r.Next()
	if _, err := r.Next(); err != first || err == nil {
		t.Errorf("%v after %v", err, first)
	}
	if _, err := r.Read(make([]byte, 1)); err != first {
		t.Errorf("Read: %v after %v", err, first)
	}
}

// TestReaderFlips holds that a changed bit is either refused or read as what it
// now says: the archive stays canonical.
func TestReaderFlips(t *testing.T) {
	archive := sample(t)
	refused := 0
	for range 2000 {
		b := bytes.Clone(archive)
		b[rand.N(len(b))] ^= 1 << rand.N(8)
		var out bytes.Buffer
		if err := rewrite(bytes.NewReader(b), &out); err != nil {
			refused++
		} else if !bytes.Equal(out.Bytes(), b) {
			t.Fatal("an archive that is not canonical was read")
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

func FuzzReader(f *testing.F) {
	seeds := [][]byte{words(magic, "(", "type", "symlink", "target", "t", ")"), words(magic, "(", "type", "regular", "executable", "", "contents", "x", ")")}
	var small bytes.Buffer
	if err := write(&small, directory, entry("a"), file("xyz", true), entry("b"), directory, entry("c"), symlink("d"), endDirectory, endDirectory); err != nil {
		f.Fatal(err)
	}
	for _, s := range append(seeds, small.Bytes()) {
		if err := rewrite(bytes.NewReader(s), io.Discard); err != nil {
			f.Fatalf("a seed does not reach the end: %v", err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if err := rewrite(bytes.NewReader(b), &out); err == nil && !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("%q was read as %q", b, out.Bytes())
		}
	})
}
