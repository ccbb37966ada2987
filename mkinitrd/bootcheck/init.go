package bootcheck

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"io"
	"path"
	"strings"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/unpack"
)

// machines are the ELF machines of the architectures, as GOARCH.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "386": elf.EM_386, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
}

// maxChain is how many interpreters may need each other; the kernel takes 5.
const maxChain = 5

// init checks the first program.
func (c *checker) init() {
	const name = "/init"
	if c.tree.Lookup(name) == nil {
		if _, ok := c.find(name); ok {
			c.say(Error, name, "is a symbolic link that leads nowhere: the kernel looks for a root file system, and panics")
			return
		}
		c.say(Error, name, "is missing: the kernel looks for a root file system, and panics")
		return
	}
	c.program(name, "", 0)
}

// find looks a path up without following a link at its end.
func (c *checker) find(name string) (*unpack.Node, bool) {
	for p, n := range c.tree.All() {
		if p == name {
			return n, true
		}
	}
	return nil, false
}

// program checks that the kernel can run the file; why says what wants it.
func (c *checker) program(name, why string, depth int) {
	n := c.tree.Lookup(name)
	switch {
	case n == nil:
		c.say(Error, name, "%sis missing", why)
		return
	case n.Type() != newc.TypeRegular:
		c.say(Error, name, "%sis no regular file: the kernel cannot run it", why)
		return
	case n.Mode&0o111 == 0:
		c.say(Error, name, "%sis not executable (mode %04o): the kernel cannot run it", why, n.Mode&^newc.TypeMask)
		return
	case n.Cut:
		c.say(Error, name, "%sis cut off: the kernel does not run it", why)
		return
	case depth > maxChain:
		c.say(Error, name, "%sneeds more than %d interpreters in a row", why, maxChain)
		return
	}
	r := c.tree.Open(n)
	head := make([]byte, 256)
	k, err := io.ReadFull(r, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		c.say(Error, name, "%scannot be read: %v", why, err)
		return
	}
	head = head[:k]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		c.script(name, head, depth)
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		c.elf(name, why, n)
	default:
		c.say(Error, name, "%sis neither an ELF program nor a script (#!)", why)
	}
}

func (c *checker) script(name string, head []byte, depth int) {
	line, _, whole := bytes.Cut(head[2:], []byte("\n"))
	fields := strings.Fields(string(line))
	switch {
	case len(fields) == 0:
		c.say(Error, name, "names no interpreter after #!")
		return
	case !whole && len(head) == 256 && len(fields) == 1:
		c.say(Error, name, "the line after #! is longer than the kernel reads")
		return
	case c.k.Config != nil && !c.k.Config.On("BINFMT_SCRIPT"):
		c.say(Error, name, "is a script, and the kernel runs none: CONFIG_BINFMT_SCRIPT is off")
	}
	c.program(absolute(fields[0]), "which "+name+" is run by, ", depth+1)
}

// absolute is where a path leads from init's working directory.
func absolute(p string) string { return path.Clean("/" + p) }

func (c *checker) elf(name, why string, n *unpack.Node) {
	f, err := elf.NewFile(c.tree.Open(n))
	if err != nil {
		c.say(Error, name, "%sis a damaged program: %v", why, err)
		return
	}
	if want, ok := machines[c.k.Arch]; ok && f.Machine != want {
		if !(c.k.Arch == "amd64" && f.Machine == elf.EM_386 && (c.k.Config == nil || c.k.Config.On("IA32_EMULATION"))) {
			c.say(Error, name, "%sis for %v, the kernel for %v", why, f.Machine, want)
		}
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		c.say(Error, name, "%sis no program (%v)", why, f.Type)
		return
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP || p.Filesz > 4096 {
			continue
		}
		b, err := io.ReadAll(p.Open())
		if err != nil {
			c.say(Error, name, "%sis a damaged program: %v", why, err)
			return
		}
		interp := absolute(strings.TrimRight(string(b), "\x00"))
		if m := c.tree.Lookup(interp); m == nil || m.Type() != newc.TypeRegular || m.Mode&0o111 == 0 {
			c.say(Error, name, "%sneeds the loader %s, which is not in the image", why, interp)
			return
		}
		c.libraries(name, f)
		return
	}
}

// libraries warns of those that are nowhere in the image. Where the loader
// looks is its own business.
func (c *checker) libraries(name string, f *elf.File) {
	libs, err := f.ImportedLibraries()
	if err != nil || len(libs) == 0 {
		return
	}
	have := map[string]bool{}
	for p := range c.tree.All() {
		have[path.Base(p)] = true
	}
	for _, l := range libs {
		if !have[path.Base(l)] {
			c.say(Error, name, "needs the library %s, which is not in the image", l)
		}
	}
}

// read returns a small file, nil if it is not there.
func (c *checker) read(name string, most int64) ([]byte, error) {
	n := c.tree.Lookup(name)
	if n == nil || n.Type() != newc.TypeRegular {
		return nil, nil
	}
	if n.Size > most {
		return nil, errors.New("is larger than anything of its kind")
	}
	return io.ReadAll(bufio.NewReader(c.tree.Open(n)))
}
