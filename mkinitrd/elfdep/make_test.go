package elfdep

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

// made describes an ELF file as the linker would make it, with only what the
// loader asks for.
type made struct {
	machine elf.Machine
	interp  string
	needed  []string
	rpath   string
	runpath string
	note    string // JSON of .note.dlopen
}

// bytes is the file: header, program headers, the sections' data, and their
// headers.
func (m made) bytes(t testing.TB) []byte {
	t.Helper()
	if m.machine == 0 {
		m.machine = elf.EM_X86_64
	}
	le := binary.LittleEndian
	dynstr := []byte{0}
	str := func(s string) uint64 {
		at := len(dynstr)
		dynstr = append(append(dynstr, s...), 0)
		return uint64(at)
	}
	var dynamic []byte
	tag := func(tag elf.DynTag, v uint64) {
		dynamic = le.AppendUint64(le.AppendUint64(dynamic, uint64(tag)), v)
	}
	for _, n := range m.needed {
		tag(elf.DT_NEEDED, str(n))
	}
	if m.rpath != "" {
		tag(elf.DT_RPATH, str(m.rpath))
	}
	if m.runpath != "" {
		tag(elf.DT_RUNPATH, str(m.runpath))
	}
	tag(elf.DT_NULL, 0)
	var note []byte
	if m.note != "" {
		note = le.AppendUint32(note, 4)
		note = le.AppendUint32(note, uint32(len(m.note)+1))
		note = le.AppendUint32(note, noteType)
		note = append(append(append(note, noteOwner...), m.note...), 0)
		for len(note)%4 != 0 {
			note = append(note, 0)
		}
	}
	names := []byte("\x00.dynstr\x00.dynamic\x00.note.dlopen\x00.shstrtab\x00")
	interp := append([]byte(m.interp), 0)

	const head, ph, sh = 64, 56, 64
	at := uint64(head + 2*ph)
	place := func(b []byte) uint64 {
		off := at
		at += uint64(len(b)+7) &^ 7
		return off
	}
	parts := [][]byte{interp, dynstr, dynamic, note, names}
	var off [5]uint64
	for i, p := range parts {
		off[i] = place(p)
	}
	h := elf.Header64{
		Type: uint16(elf.ET_DYN), Machine: uint16(m.machine), Version: 1, Phoff: head, Shoff: at,
		Ehsize: head, Phentsize: ph, Phnum: 2, Shentsize: sh, Shnum: 5, Shstrndx: 4,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	progs := []elf.Prog64{{Type: uint32(elf.PT_DYNAMIC), Off: off[2], Filesz: uint64(len(dynamic)), Memsz: uint64(len(dynamic))}, {Type: uint32(elf.PT_NULL)}}
	if m.interp != "" {
		progs[1] = elf.Prog64{Type: uint32(elf.PT_INTERP), Off: off[0], Filesz: uint64(len(interp)), Memsz: uint64(len(interp))}
	}
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: off[1], Size: uint64(len(dynstr))},
		{Name: 9, Type: uint32(elf.SHT_DYNAMIC), Off: off[2], Size: uint64(len(dynamic)), Link: 1, Entsize: 16},
		{Name: 18, Type: uint32(elf.SHT_NOTE), Off: off[3], Size: uint64(len(note))},
		{Name: 31, Type: uint32(elf.SHT_STRTAB), Off: off[4], Size: uint64(len(names))},
	}
	var b bytes.Buffer
	put := func(v any) {
		if err := binary.Write(&b, le, v); err != nil {
			t.Fatal(err)
		}
	}
	put(h)
	put(progs)
	for i, p := range parts {
		b.Write(make([]byte, int(off[i])-b.Len()))
		b.Write(p)
	}
	b.Write(make([]byte, int(at)-b.Len()))
	put(sections)
	return b.Bytes()
}

// tree is a root directory.
type tree struct {
	t   testing.TB
	dir string
}

func newTree(t testing.TB) *tree { return &tree{t, t.TempDir()} }

func (r *tree) write(name string, data []byte) {
	r.t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o755); err != nil {
		r.t.Fatal(err)
	}
}

func (r *tree) elf(name string, m made) {
	r.t.Helper()
	r.write(name, m.bytes(r.t))
}

func (r *tree) link(name, target string) {
	r.t.Helper()
	file := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Symlink(target, file); err != nil {
		r.t.Fatal(err)
	}
}
