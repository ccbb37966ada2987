package kmod

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// ErrNotFound is wrapped by the error of a name that is no module, no alias and
// not built in.
var ErrNotFound = errors.New("no such module")

// Index is what depmod knows of one kernel's modules.
type Index struct {
	dir     string
	deps    map[string]dependencies
	soft    map[string]softDependencies
	builtin map[string]bool
	aliases func() ([]alias, error) // read when first needed: it is the largest
}

// Module is one module that has to be loaded.
type Module struct {
	Name string // in the kernel's form: "virtio_pci"
	// Path is relative to the index's directory, without the extension of a
	// compression: "kernel/fs/fuse/fuse.ko".
	Path string
	// File is where it is on this machine, perhaps compressed.
	File string
}

// Open reads the index of the modules in dir, "/lib/modules/RELEASE". Only
// modules.dep has to be there.
func Open(dir string) (*Index, error) {
	x := &Index{dir: dir}
	var err error
	if x.deps, err = parseFile(dir, "modules.dep", parseDep); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("open modules: no modules.dep in %s: install the kernel's modules there, or run depmod: %w", dir, err)
		}
		return nil, fmt.Errorf("open modules: %w", err)
	}
	if x.soft, err = parseFile(dir, "modules.softdep", parseSoftdep); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	if x.builtin, err = parseFile(dir, "modules.builtin", parseBuiltin); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open modules: %w", err)
	}
	x.aliases = sync.OnceValues(func() ([]alias, error) {
		list, err := parseFile(dir, "modules.alias", parseAlias)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return list, err
	})
	return x, nil
}

// Dir is the directory of the index.
func (x *Index) Dir() string { return x.dir }

func parseFile[T any](dir, name string, parse func(io.Reader) (T, error)) (T, error) {
	var zero T
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return zero, err
	}
	defer f.Close()
	v, err := parse(f)
	if err != nil {
		return zero, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return v, nil
}

// Resolve returns the names of the modules that name stands for: itself, if it
// is a module or built in, or what it is an alias of. The error wraps
// [ErrNotFound] if there are none.
func (x *Index) Resolve(name string) ([]string, error) {
	c := Canonical(name)
	if _, ok := x.deps[c]; ok || x.builtin[c] {
		return []string{c}, nil
	}
	list, err := x.aliases()
	if err != nil {
		return nil, fmt.Errorf("resolve module %s: %w", name, err)
	}
	var out []string
	for _, a := range list {
		// A malformed pattern matches nothing, as with fnmatch(3).
		if ok, err := path.Match(a.pattern, c); err == nil && ok && !slices.Contains(out, a.module) {
			out = append(out, a.module)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("module %s: %w in %s (not by name, alias or built in)", name, ErrNotFound, x.dir)
	}
	return out, nil
}

// Has says whether the name is a module, an alias, or built in.
func (x *Index) Has(name string) bool {
	_, err := x.Resolve(name)
	return err == nil
}

// Closure returns the modules to load for the names, in the order to load them
// in: each after what it depends on and after the soft dependencies that come
// before it, and before those that come after it. What is built in is left out,
// and so are soft dependencies that do not exist. The error of a name that is
// not there wraps [ErrNotFound] and names it and the directory.
func (x *Index) Closure(names ...string) ([]Module, error) {
	c := closure{x: x, state: map[string]state{}}
	for _, name := range names {
		resolved, err := x.Resolve(name)
		if err != nil {
			return nil, err
		}
		for _, m := range resolved {
			if err := c.add(m, nil); err != nil {
				return nil, err
			}
		}
	}
	return c.out, nil
}

// closure is a walk through the dependencies, depth first.
type closure struct {
	x     *Index
	state map[string]state
	out   []Module
}

// maxDepth is how many modules may need each other in a row; real ones are
// below 10.
const maxDepth = 1000

type state int

const (
	unseen state = iota
	entered
	done
)

func (c *closure) add(name string, from []string) error {
	if c.state[name] != unseen || c.x.builtin[name] {
		// One that is entered is in a cycle through a soft dependency: it
		// comes when its turn is.
		return nil
	}
	d, ok := c.x.deps[name]
	if !ok {
		return fmt.Errorf("module %s, which %s needs: %w in %s", name, from[len(from)-1], ErrNotFound, c.x.dir)
	}
	if len(from) >= maxDepth {
		return fmt.Errorf("module %s: dependencies more than %d deep in %s", name, maxDepth, c.x.dir)
	}
	c.state[name] = entered
	soft := c.x.soft[name]
	if err := c.addSoft(soft.pre); err != nil {
		return err
	}
	chain := append(slices.Clip(from), name)
	for _, need := range slices.Backward(d.needs) {
		n := nameOf(need)
		if slices.Contains(chain, n) {
			return fmt.Errorf("module %s needs itself in %s/modules.dep: run depmod", n, c.x.dir)
		}
		if err := c.add(n, chain); err != nil {
			return err
		}
	}
	c.state[name] = done
	file, err := c.x.locate(d.path)
	if err != nil {
		return fmt.Errorf("module %s: %w", name, err)
	}
	c.out = append(c.out, Module{Name: name, Path: withoutCompression(d.path), File: file})
	return c.addSoft(soft.post)
}

func (c *closure) addSoft(names []string) error {
	for _, name := range names {
		resolved, err := c.x.Resolve(name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range resolved {
			if err := c.add(m, nil); err != nil {
				return err
			}
		}
	}
	return nil
}

// locate finds the module's file.
func (x *Index) locate(rel string) (string, error) {
	file := filepath.Join(x.dir, filepath.FromSlash(rel))
	st, err := os.Stat(file)
	if err != nil {
		return "", fmt.Errorf("modules.dep names it, but: %w", err)
	}
	if !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s is not a regular file", file)
	}
	return file, nil
}

func withoutCompression(p string) string {
	i := strings.LastIndex(p, ".ko")
	return p[:i+len(".ko")]
}
