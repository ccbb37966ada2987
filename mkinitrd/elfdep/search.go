package elfdep

import (
	"debug/elf"
	"fmt"
	"os"
	"path"
	"strings"
)

// system is what a loader knows of its machine.
type system struct {
	platform string // of $PLATFORM
	triplet  string // Debian's directory
	lib64    bool
	musl     string
}

func systemOf(m elf.Machine, c elf.Class) system {
	switch {
	case m == elf.EM_X86_64:
		return system{"x86_64", "x86_64-linux-gnu", true, "x86_64"}
	case m == elf.EM_386:
		return system{"i686", "i386-linux-gnu", false, "i386"}
	case m == elf.EM_AARCH64:
		return system{"aarch64", "aarch64-linux-gnu", true, "aarch64"}
	case m == elf.EM_RISCV && c == elf.ELFCLASS64:
		return system{"riscv64", "riscv64-linux-gnu", true, "riscv64"}
	case m == elf.EM_ARM:
		return system{"v7l", "arm-linux-gnueabihf", false, "armhf"}
	case m == elf.EM_PPC64:
		return system{"power8", "powerpc64le-linux-gnu", true, "powerpc64le"}
	case m == elf.EM_S390:
		return system{"z900", "s390x-linux-gnu", true, "s390x"}
	}
	return system{"", "", c == elf.ELFCLASS64, ""}
}

// dirs are the loader's own directories.
func (s system) dirs() []string {
	var out []string
	for _, d := range s.libs() {
		out = append(out, "/"+d, "/usr/"+d)
	}
	return out
}

// libs are the values that $LIB may have.
func (s system) libs() []string {
	var out []string
	if s.triplet != "" {
		out = append(out, "lib/"+s.triplet)
	}
	if s.lib64 {
		out = append(out, "lib64")
	}
	return append(out, "lib")
}

// search finds a library for an object, as its loader would.
func (r *Resolver) search(o *object, name string) (*object, error) {
	sys := systemOf(o.machine, o.class)
	if strings.Contains(name, "/") {
		for _, c := range r.expand(o, sys, name) {
			if f := r.fits(o, c); f != nil {
				return f, nil
			}
		}
		return nil, fmt.Errorf("library %s, which %s needs: %w", name, o.path, ErrNotFound)
	}
	join := func(c candidate) candidate {
		return candidate{path.Join(c.path, name), path.Join(c.place, name), c.outside}
	}
	var dirs []candidate
	if !o.hasRun {
		// Those of a loader that has a DT_RUNPATH do not count.
		for l := o; l != nil; l = l.loader {
			for _, p := range l.rpath {
				if !l.hasRun {
					dirs = append(dirs, r.expand(l, sys, p)...)
				}
			}
		}
	}
	for _, p := range o.runpath {
		dirs = append(dirs, r.expand(o, sys, p)...)
	}
	for _, d := range dirs {
		if f := r.fits(o, join(d)); f != nil {
			return f, nil
		}
	}
	own := sys.dirs()
	if r.isMusl(o) {
		own = r.root.muslDirs(sys.musl)
	} else {
		for _, p := range r.cache[name] {
			if f := r.fits(o, candidate{path: p, place: p}); f != nil {
				f.cached = !isOneOf(path.Dir(p), own)
				return f, nil
			}
		}
		for _, d := range r.conf {
			if f := r.fits(o, join(candidate{path: d, place: d})); f != nil {
				f.cached = !isOneOf(d, own)
				return f, nil
			}
		}
	}
	for _, d := range own {
		if f := r.fits(o, join(candidate{path: d, place: d})); f != nil {
			return f, nil
		}
	}
	return nil, fmt.Errorf("library %s, which %s needs: %w", name, o.path, ErrNotFound)
}

func isOneOf(s string, list []string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// isMusl says whether the program that o belongs to has musl's loader.
func (r *Resolver) isMusl(o *object) bool {
	for ; o != nil; o = o.loader {
		if o.interp != "" {
			return strings.HasPrefix(path.Base(o.interp), "ld-musl-")
		}
	}
	return false
}

// candidate is a path to try. An object may stand elsewhere in the image than
// on this machine: then so does what it finds through $ORIGIN.
type candidate struct {
	path, place string
	outside     bool // path is one of this machine, not of the root
}

// expand replaces $ORIGIN, $LIB and $PLATFORM, with braces or without.
func (r *Resolver) expand(o *object, sys system, p string) []candidate {
	p = strings.NewReplacer("${ORIGIN}", "$ORIGIN", "${LIB}", "$LIB", "${PLATFORM}", "$PLATFORM").Replace(p)
	p = strings.ReplaceAll(p, "$PLATFORM", sys.platform)
	var out []candidate
	for _, lib := range sys.libs() {
		c := strings.ReplaceAll(p, "$LIB", lib)
		if rest, ok := strings.CutPrefix(c, "$ORIGIN"); ok {
			// The directory of the file itself, behind all links.
			dir, outside := path.Dir(o.host), true
			out = append(out, candidate{path.Clean(dir + "/" + rest), path.Clean(path.Dir(o.place) + "/" + rest), outside})
		} else if path.IsAbs(c) {
			out = append(out, candidate{path: path.Clean(c), place: path.Clean(c)})
		}
		if !strings.Contains(p, "$LIB") {
			break
		}
	}
	return out
}

// fits returns the object at the candidate if it is for the same machine.
func (r *Resolver) fits(o *object, c candidate) *object {
	host := c.path
	if !c.outside {
		var err error
		if host, err = r.root.regular(c.path); err != nil {
			return nil
		}
	} else if st, err := os.Stat(host); err != nil || !st.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(host)
	if err != nil {
		return nil
	}
	defer f.Close()
	// e_ident and e_machine, as the loader looks at them.
	var b [20]byte
	if _, err := f.ReadAt(b[:], 0); err != nil || string(b[:4]) != elf.ELFMAG {
		return nil
	}
	machine := elf.Machine(uint16(b[18]) | uint16(b[19])<<8)
	if elf.Data(b[elf.EI_DATA]) == elf.ELFDATA2MSB {
		machine = elf.Machine(uint16(b[19]) | uint16(b[18])<<8)
	}
	if elf.Class(b[elf.EI_CLASS]) != o.class || elf.Data(b[elf.EI_DATA]) != o.data || machine != o.machine {
		return nil
	}
	return &object{host: host, path: c.path, place: c.place}
}
