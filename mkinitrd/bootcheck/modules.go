package bootcheck

import (
	"bufio"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/unpack"
)

// maxModule is the largest module that is looked into.
const maxModule = 256 << 20

// module is a kernel module in the image.
type module struct {
	path    string
	depends []string
}

// canonical is a module's name as the kernel has it.
func canonical(name string) string { return strings.ReplaceAll(name, "-", "_") }

// moduleName is the name of the module in a file, "" if it is none.
func moduleName(p string) string {
	base := path.Base(p)
	for _, end := range []string{".xz", ".zst", ".gz"} {
		base = strings.TrimSuffix(base, end)
	}
	name, ok := strings.CutSuffix(base, ".ko")
	if !ok {
		return ""
	}
	return canonical(name)
}

// modules checks all modules of the image and returns them by name.
func (c *checker) modules() map[string]module {
	found := map[string]module{}
	for p, n := range c.tree.All() {
		name := moduleName(p)
		if name == "" || n.Type() != newc.TypeRegular {
			continue
		}
		info, err := c.modinfo(p, n)
		if err != nil {
			c.say(Error, p, "is no module that can be loaded: %v", err)
			continue
		}
		release, _, _ := strings.Cut(info["vermagic"], " ")
		switch {
		case c.k.Release == "":
		case release == "":
			c.say(Warning, p, "does not say which kernel it is for")
		case release != c.k.Release:
			c.say(Error, p, "is for kernel %s, not for %s", release, c.k.Release)
		}
		m := module{path: p}
		for d := range strings.SplitSeq(info["depends"], ",") {
			if d != "" {
				m.depends = append(m.depends, canonical(d))
			}
		}
		found[name] = m
	}
	for p := range c.tree.All() {
		name := moduleName(p)
		m, ok := found[name]
		if !ok || m.path != p {
			continue
		}
		for _, d := range m.depends {
			if _, ok := found[d]; !ok && !c.k.Builtin[d] {
				c.say(Error, p, "depends on the module %s, which is not in the image", d)
			}
		}
	}
	return found
}

// modinfo reads what the module says of itself: the first value of each key.
func (c *checker) modinfo(p string, n *unpack.Node) (map[string]string, error) {
	if n.Size > maxModule {
		return nil, fmt.Errorf("%d bytes are more than a module has", n.Size)
	}
	var r io.ReaderAt = c.tree.Open(n)
	if !strings.HasSuffix(p, ".ko") {
		z, _, err := compress.NewReader(bufio.NewReader(c.tree.Open(n)))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		data, err := io.ReadAll(io.LimitReader(z, maxModule))
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return nil, err
	}
	s := f.Section(".modinfo")
	switch {
	case s == nil:
		return nil, errors.New("it has no section .modinfo")
	case s.FileSize > 4<<20:
		return nil, errors.New("its section .modinfo is too large")
	}
	data, err := io.ReadAll(s.Open())
	if err != nil {
		return nil, err
	}
	info := map[string]string{}
	for line := range strings.SplitSeq(string(data), "\x00") {
		if k, v, ok := strings.Cut(line, "="); ok && info[k] == "" {
			info[k] = v
		}
	}
	return info, nil
}
