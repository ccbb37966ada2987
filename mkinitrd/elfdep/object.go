package elfdep

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

const (
	maxInterp = 4096      // PATH_MAX
	maxNames  = 4096      // entries of one tag
	maxScript = 256       // BINPRM_BUF_SIZE
	maxNote   = 256 << 10 // bytes of .note.dlopen
)

// object is an ELF file.
type object struct {
	host  string // the file on this machine
	path  string // where it is in the root
	place string // where it is in the image
	// loader is the object that needs it; nil for a program.
	loader *object
	cached bool // found through ld.so.cache or ld.so.conf

	class   elf.Class
	machine elf.Machine
	data    elf.Data
	interp  string
	needed  []string
	rpath   []string
	runpath []string
	hasRun  bool
	notes   []note
}

func (o *object) static() bool { return o == nil || o.interp == "" && len(o.needed) == 0 }

// open reads the file; nil without an error is no ELF file.
func (r *Resolver) open(o object) (*object, error) {
	f, err := os.Open(o.host)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var magic [4]byte
	if _, err := io.ReadFull(f, magic[:]); err != nil || string(magic[:]) != elf.ELFMAG {
		return nil, nil
	}
	if err := o.read(f); err != nil {
		return nil, fmt.Errorf("%s: %w", o.host, err)
	}
	return &o, nil
}

// read fills in what the file says.
func (o *object) read(f io.ReaderAt) error {
	e, err := elf.NewFile(f)
	if err != nil {
		return fmt.Errorf("not a sound ELF file: %w", err)
	}
	o.class, o.machine, o.data = e.Class, e.Machine, e.Data
	dynamic := false
	for _, p := range e.Progs {
		switch p.Type {
		case elf.PT_DYNAMIC:
			dynamic = true
		case elf.PT_INTERP:
			b := make([]byte, min(p.Filesz, maxInterp))
			if _, err := p.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("read the interpreter's name: %w", err)
			}
			name, _, _ := bytes.Cut(b, []byte{0})
			if o.interp = string(name); !path.IsAbs(o.interp) {
				return fmt.Errorf("its interpreter %q is not an absolute path", o.interp)
			}
		}
	}
	if !dynamic {
		return nil
	}
	if e.SectionByType(elf.SHT_DYNAMIC) == nil {
		return errors.New("has no section headers, so what it needs cannot be read")
	}
	lists := map[elf.DynTag][]string{}
	for _, tag := range []elf.DynTag{elf.DT_NEEDED, elf.DT_RPATH, elf.DT_RUNPATH} {
		if lists[tag], err = e.DynString(tag); err != nil {
			return fmt.Errorf("read its dynamic section: %w", err)
		}
		if len(lists[tag]) > maxNames {
			return fmt.Errorf("needs more than %d files", maxNames)
		}
	}
	o.needed = lists[elf.DT_NEEDED]
	o.rpath, o.runpath = splitPaths(lists[elf.DT_RPATH]), splitPaths(lists[elf.DT_RUNPATH])
	o.hasRun = len(lists[elf.DT_RUNPATH]) > 0
	o.notes, err = readNotes(e)
	return err
}

func splitPaths(lists []string) []string {
	var out []string
	for _, l := range lists {
		for p := range strings.SplitSeq(l, ":") {
			if p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// script returns the words of the "#!" line; nil is no script. The kernel makes
// one argument of all that follows the interpreter; env -S splits it.
func script(host string) ([]string, error) {
	f, err := os.Open(host)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	line, err := bufio.NewReader(io.LimitReader(f, maxScript)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	rest, ok := strings.CutPrefix(line, "#!")
	if !ok {
		return nil, nil
	}
	words := strings.Fields(rest)
	if len(words) == 0 || !path.IsAbs(words[0]) {
		return nil, fmt.Errorf("its first line %q names no absolute path of an interpreter", strings.TrimSpace(line))
	}
	return words, nil
}
