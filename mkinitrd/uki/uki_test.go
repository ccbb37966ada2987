package uki

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// stub makes a PE file with one section and so much room for more, signed if
// asked to.
func stub(room int, signed bool) []byte {
	le := binary.LittleEndian
	const at, opt, optSize = 64, 64 + coffSize, 240
	headers := (opt + optSize + (1+room)*sectionSize + 511) &^ 511
	if room == 0 {
		headers = opt + optSize + sectionSize
	}
	b := make([]byte, headers+512)
	copy(b, "MZ")
	le.PutUint32(b[peOffset:], at)
	copy(b[at:], "PE\x00\x00\x64\x86")
	le.PutUint16(b[at+6:], 1)
	le.PutUint16(b[at+20:], optSize)
	le.PutUint16(b[opt:], optionalMagic)
	le.PutUint32(b[opt+optSecAlign:], 4096)
	le.PutUint32(b[opt+optFileAlign:], 512)
	le.PutUint32(b[opt+optSizeHeaders:], uint32(headers))
	le.PutUint32(b[opt+optDirectories:], 16)
	s := b[opt+optSize:]
	copy(s, ".text")
	le.PutUint32(s[8:], 100)
	le.PutUint32(s[12:], 8192)
	le.PutUint32(s[16:], 512)
	le.PutUint32(s[20:], uint32(headers))
	if signed {
		le.PutUint32(b[opt+optMinimum+certificates*8:], uint32(len(b)))
		le.PutUint32(b[opt+optMinimum+certificates*8+4:], 8)
		b = append(b, "SIGNATUR"...)
	}
	return b
}

func parts(s []byte) Parts {
	return Parts{Stub: s, Kernel: []byte(strings.Repeat("kernel", 1000)), Initrd: []byte(strings.Repeat("i", 4097)), Cmdline: "console=ttyS0", OSRelease: []byte("ID=x\n"), Uname: "6.1"}
}

// check holds that each section is where its header says, and nothing overlaps.
func check(t *testing.T, b []byte, p Parts) {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{".linux": string(p.Kernel), ".initrd": string(p.Initrd), ".cmdline": p.Cmdline, ".osrel": string(p.OSRelease), ".uname": p.Uname}
	address, offset, last := uint32(0), uint32(0), ""
	for _, s := range f.Sections {
		if text, ok := want[s.Name]; ok {
			data, err := s.Data()
			if err != nil || len(data) < len(text) || string(data[:len(text)]) != text || int(s.VirtualSize) != len(text) {
				t.Errorf("%s: %d bytes, size %d, %v", s.Name, len(data), s.VirtualSize, err)
			}
			if strings.Trim(string(data[len(text):]), "\x00") != "" {
				t.Errorf("%s: not padded with zeros", s.Name)
			}
			delete(want, s.Name)
			if s.VirtualAddress < address || s.Offset < offset || s.VirtualAddress%4096 != 0 || s.Offset%512 != 0 {
				t.Errorf("%s: address %#x, offset %#x, after %#x and %#x", s.Name, s.VirtualAddress, s.Offset, address, offset)
			}
		}
		address, offset, last = s.VirtualAddress+max(s.VirtualSize, s.Size), s.Offset+s.Size, s.Name
	}
	if len(want) > 0 || last != ".linux" {
		t.Errorf("lacks %v; the last is %s", want, last)
	}
	opt, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || opt.SizeOfImage < address || opt.SizeOfImage%4096 != 0 {
		t.Errorf("size of the image %#x, its end is %#x", opt.SizeOfImage, address)
	}
	if opt.DataDirectory[certificates].Size != 0 || bytes.Contains(b, []byte("SIGNATUR")) {
		t.Error("a signature is left")
	}
	if int(offset) != len(b) {
		t.Errorf("%d bytes, the last section ends at %d", len(b), offset)
	}
}

func TestWrite(t *testing.T) {
	for _, signed := range []bool{false, true} {
		p := parts(stub(5, signed))
		before := bytes.Clone(p.Stub)
		var a, b bytes.Buffer
		if err := Write(&a, p); err != nil {
			t.Fatal(err)
		}
		check(t, a.Bytes(), p)
		if err := Write(&b, p); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) || !bytes.Equal(before, p.Stub) {
			t.Errorf("a second time it is another, or the stub was changed: %v", err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Parts
		err  string
	}{
		{"no kernel", Parts{Stub: stub(5, false)}, "no kernel"},
		{"no stub", Parts{Kernel: []byte("x")}, "not a PE file"},
		{"no room", parts(stub(0, false)), "room for 0 more"},
		{"cut", parts(stub(5, false)[:300]), "not a sound PE32+"},
		{"section outside", parts(stub(5, false)[:len(stub(5, false))-1]), "lies outside"},
	} {
		if err := Write(&bytes.Buffer{}, tt.p); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.err)
		}
	}
}

// TestRealStub makes an image with systemd's stub, and has GNU objdump and, if
// it is there, ukify read it.
func TestRealStub(t *testing.T) {
	const file = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Skip("SKIP: this machine lacks " + file + " (apt-get install systemd-boot-efi)")
	}
	p := parts(data)
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	check(t, b.Bytes(), p)
	out := filepath.Join(t.TempDir(), "linux.efi")
	if err := os.WriteFile(out, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tool := range [][]string{{"objdump", "-h", out}, {"ukify", "inspect", out}} {
		path, err := exec.LookPath(tool[0])
		if err != nil {
			t.Logf("SKIP: this machine lacks %s", tool[0])
			continue
		}
		said, err := exec.Command(path, tool[1:]...).CombinedOutput()
		for _, s := range []string{".osrel", ".cmdline", ".initrd", ".linux"} {
			if err != nil || !strings.Contains(string(said), s) {
				t.Errorf("%s: %v: lacks %s: %s", tool[0], err, s, said)
			}
		}
	}
}

// TestInitrd reads initrds back.
func TestInitrd(t *testing.T) {
	p := parts(stub(5, true))
	var b bytes.Buffer
	if err := Write(&b, p); err != nil {
		t.Fatal(err)
	}
	read := func(file []byte) (string, error) {
		r, err := Initrd(bytes.NewReader(file))
		if err != nil {
			return "", err
		}
		data, err := io.ReadAll(r)
		return string(data), err
	}
	if got, err := read(b.Bytes()); err != nil || got != string(p.Initrd)+"\x00\x00\x00" {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	// With microcode, which comes first.
	early := bytes.Replace(b.Bytes(), []byte(".osrel\x00\x00"), []byte(".ucode\x00\x00"), 1)
	if got, err := read(early); err != nil || !strings.HasPrefix(got, "ID=x\n\x00\x00\x00iii") {
		t.Errorf("%.20q, %v", got, err)
	}
	at := bytes.Index(b.Bytes(), []byte(".initrd"))
	tooLong := bytes.Clone(b.Bytes())
	tooLong[at+8+3] = 1
	if got, err := read(tooLong); err == nil {
		t.Errorf("a section larger than its bytes: %d bytes", len(got))
	}
	for n := range bytes.LastIndex(b.Bytes(), []byte("iii")) + 3 {
		if got, err := read(b.Bytes()[:n]); err == nil {
			t.Fatalf("cut at %d of %d: %d bytes", n, b.Len(), len(got))
		}
	}
	for _, tt := range []struct {
		file  string
		other bool
	}{{"", true}, {"M", true}, {"070701", true}, {string(stub(5, false)), false}} {
		if _, err := read([]byte(tt.file)); err == nil || errors.Is(err, ErrNotUKI) != tt.other {
			t.Errorf("%.10q: %v", tt.file, err)
		}
	}
}

// FuzzInitrd reads arbitrary files.
func FuzzInitrd(f *testing.F) {
	for _, signed := range []bool{false, true} {
		var b bytes.Buffer
		if err := Write(&b, parts(stub(5, signed))); err != nil {
			f.Fatal(err)
		}
		if _, err := Initrd(bytes.NewReader(b.Bytes())); err != nil {
			f.Fatalf("a seed does not reach the code: %v", err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Initrd(bytes.NewReader(data))
		if err != nil {
			return
		}
		if n, err := io.Copy(io.Discard, r); err == nil && n > 2*int64(len(data))+2*align {
			t.Errorf("%d bytes of %d", n, len(data))
		}
	})
}

// FuzzStub takes arbitrary files for the stub.
func FuzzStub(f *testing.F) {
	f.Add(stub(5, false))
	f.Add(stub(5, true))
	if err := Write(&bytes.Buffer{}, parts(stub(5, true))); err != nil {
		f.Fatalf("a seed does not reach the code: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var b bytes.Buffer
		if err := Write(&b, parts(data)); err == nil && b.Len() < len(parts(nil).Kernel) {
			t.Error(fmt.Sprint("an image of ", b.Len(), " bytes"))
		}
	})
}
