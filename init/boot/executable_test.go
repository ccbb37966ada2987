package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

// elf64 is an ELF file with one program header of the given type, which points
// at text behind it.
func elf64(kind uint32, text string) []byte {
	b := make([]byte, 64+56)
	copy(b, "\x7fELF\x02\x01\x01")
	copy(b[18:], hereWide)
	le := binary.LittleEndian
	le.PutUint64(b[32:], 64) // e_phoff
	le.PutUint16(b[54:], 56) // e_phentsize
	le.PutUint16(b[56:], 1)  // e_phnum
	le.PutUint32(b[64:], kind)
	le.PutUint64(b[64+8:], uint64(len(b)))
	le.PutUint64(b[64+32:], uint64(len(text)))
	return append(b, text...)
}

// elf32 is the same for 32 bits.
func elf32(text string) []byte {
	b := make([]byte, 64+32)
	copy(b, "\x7fELF\x01\x01\x01")
	copy(b[18:], hereNarrow)
	le := binary.LittleEndian
	le.PutUint32(b[28:], 64)
	le.PutUint16(b[42:], 32)
	le.PutUint16(b[44:], 1)
	le.PutUint32(b[64:], 3)
	le.PutUint32(b[64+4:], uint32(len(b)))
	le.PutUint32(b[64+16:], uint32(len(text)))
	return append(b, text...)
}

// patched is b with a byte changed.
func patched(b []byte, at int, value byte) []byte {
	b = bytes.Clone(b)
	b[at] = value
	return b
}

func interpreterCases() []struct {
	name string
	file []byte
	want string
	err  string
} {
	dynamic := elf64(3, "/lib/ld.so\x00")
	return []struct {
		name string
		file []byte
		want string
		err  string
	}{
		{"script", []byte("#!/bin/sh\necho"), "/bin/sh", ""},
		{"script with an argument and spaces", []byte("#! \t/bin/sh -e\n"), "/bin/sh", ""},
		{"script without a line end", []byte("#!/bin/sh"), "/bin/sh", ""},
		{"script without a name", []byte("#!\n/bin/sh"), "", "no absolute path"},
		{"script with a relative name", []byte("#!sh\n"), "", "no absolute path"},
		{"dynamic", dynamic, "/lib/ld.so", ""},
		{"dynamic, 32 bits", elf32("/lib/ld.so\x00"), "/lib/ld.so", ""},
		{"static", elf64(1, "/lib/ld.so\x00"), "", ""},
		{"no program headers", []byte(staticELF), "", ""},
		{"another architecture", []byte("\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 11) + "\x16" + strings.Repeat("\x00", 45)), "", "made for another architecture (machine 22 of elf.h)"},
		{"empty", nil, "", "neither an ELF program nor a script"},
		{"text", []byte("hello"), "", "neither an ELF program nor a script"},
		{"cut header", dynamic[:40], "", "unexpected EOF"},
		{"cut program headers", dynamic[:100], "", "unexpected EOF"},
		{"cut interpreter", dynamic[:len(dynamic)-1], "", "unexpected EOF"},
		{"big-endian", patched(dynamic, 5, 2), "", "big-endian"},
		{"small program headers", patched(dynamic, 54, 4), "", "impossible program headers"},
		{"many program headers", patched(dynamic, 57, 2), "", "impossible program headers"},
		{"program headers nowhere", patched(dynamic, 39, 0xff), "", "impossible program headers"},
		{"interpreter nowhere", patched(dynamic, 64+15, 0xff), "", "impossible interpreter"},
		{"long interpreter", patched(dynamic, 64+34, 1), "", "impossible interpreter"},
		{"empty interpreter", elf64(3, ""), "", "impossible interpreter"},
		{"relative interpreter", elf64(3, "ld.so\x00"), "", "not an absolute path"},
	}
}

func TestReadInterpreter(t *testing.T) {
	for _, tt := range interpreterCases() {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readInterpreter(bytes.NewReader(tt.file))
			if got != tt.want || (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q, %v; want %q, %q", got, err, tt.want, tt.err)
			}
		})
	}
	broken := errors.New("broken disk")
	if _, err := readInterpreter(failingReader{broken}); !errors.Is(err, broken) {
		t.Errorf("read error: %v", err)
	}
}

type failingReader struct{ err error }

func (r failingReader) ReadAt([]byte, int64) (int, error) { return 0, r.err }

// TestReadInterpreterOfHost reads a real dynamic program.
func TestReadInterpreterOfHost(t *testing.T) {
	f, err := os.Open("/bin/ls")
	if err != nil {
		t.Skip("SKIP: this machine has no /bin/ls: " + err.Error())
	}
	defer f.Close()
	interp, err := readInterpreter(f)
	if err != nil || interp == "" {
		t.Fatalf("%q, %v", interp, err)
	}
	if _, err := os.Stat(interp); err != nil {
		t.Error(err)
	}
}

func FuzzReadInterpreter(f *testing.F) {
	for _, c := range interpreterCases() {
		f.Add(c.file)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		interp, err := readInterpreter(bytes.NewReader(file))
		if err != nil && interp != "" {
			t.Errorf("%q beside %v", interp, err)
		}
		if errors.Is(err, io.EOF) {
			t.Errorf("a short file is not the end of one: %v", err)
		}
		if interp != "" && (interp[0] != '/' || !bytes.Contains(file, []byte(interp))) {
			t.Errorf("interpreter %q", interp)
		}
	})
}
