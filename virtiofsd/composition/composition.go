package composition

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// MaxSize is the longest file that is read, in bytes.
const MaxSize = 64 << 10

// Root is the name of the service that is used.
const Root = "root"

// Kind is one of the three tables of a file.
type Kind string

// The kinds of services.
const (
	Blobs       Kind = "blobservices"
	Directories Kind = "directoryservices"
	PathInfos   Kind = "pathinfoservices"
)

// Kinds are all kinds.
func Kinds() []Kind { return []Kind{Blobs, Directories, PathInfos} }

// Service is a service of a file. Which fields count depends on Type.
type Service struct {
	Kind Kind
	Name string
	Type string
	Line int // of the file, counted from 1; 0 if not known

	// Address is that of a store of its own, as the flags take it. It is empty
	// for the types that are made of others.
	Address string
	// Near and Far are the references of cache and combined.
	Near, Far string
	// Inner is the reference of keyfile-signing, KeyFile its file.
	Inner, KeyFile string
	// Blobs and Directories are those of nix, references of their own kinds.
	Blobs, Directories string
	// Capacity is that of lru, at least 1.
	Capacity int
}

// refs are the references of s with the keys that hold them.
func (s Service) refs() [][2]string {
	var refs [][2]string
	for _, r := range [][2]string{{"near", s.Near}, {"far", s.Far}, {"inner", s.Inner}} {
		if r[1] != "" {
			refs = append(refs, r)
		}
	}
	return refs
}

// Composition is a checked file.
type Composition struct {
	file     string
	services map[Kind]map[string]Service
}

// Read reads and checks a file.
func Read(file string) (*Composition, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read store composition: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read store composition: %w", err)
	}
	return Parse(file, text)
}

// Parse checks the text of a file. file is what errors call it.
func Parse(file string, text []byte) (*Composition, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("store composition %s: longer than %d bytes", file, MaxSize)
	}
	c := &Composition{file: file, services: map[Kind]map[string]Service{}}
	if err := c.parse(string(text)); err != nil {
		return nil, err
	}
	return c, c.check()
}

// IsName says whether a reference is a name of a service and not an address.
func IsName(ref string) bool { return !strings.Contains(ref, ":") }

// Get returns a service by its name.
func (c *Composition) Get(k Kind, name string) (Service, error) {
	s, ok := c.services[k][name]
	if !ok {
		return Service{}, fmt.Errorf("store composition %s: there is no [%s.%s] (there is: %s)", c.file, k, name, strings.Join(c.names(k), ", "))
	}
	return s, nil
}

// All returns the services of a kind by name.
func (c *Composition) All(k Kind) []Service {
	var all []Service
	for _, name := range c.names(k) {
		all = append(all, c.services[k][name])
	}
	return all
}

func (c *Composition) names(k Kind) []string {
	return slices.Sorted(maps.Keys(c.services[k]))
}

// Error says where in the file something is wrong.
func (c *Composition) Error(line int, err error) error {
	if line == 0 {
		return fmt.Errorf("store composition %s: %w", c.file, err)
	}
	return fmt.Errorf("store composition %s:%d: %w", c.file, line, err)
}

// check checks what depends on several services.
func (c *Composition) check() error {
	for _, k := range Kinds() {
		if _, ok := c.services[k][Root]; !ok {
			return c.Error(0, fmt.Errorf("[%s.%s] is missing: it is the service that is used", k, Root))
		}
		for _, s := range c.All(k) {
			for _, r := range s.refs() {
				if _, ok := c.services[k][r[1]]; IsName(r[1]) && !ok {
					return c.Error(s.Line, fmt.Errorf("%s: %s = %q: there is no [%s.%s] (there is: %s; an address has a colon)", s, r[0], r[1], k, r[1], strings.Join(c.names(k), ", ")))
				}
			}
		}
		if err := c.checkCircles(k); err != nil {
			return err
		}
	}
	return nil
}

// String is the table of the service.
func (s Service) String() string { return fmt.Sprintf("[%s.%s]", s.Kind, s.Name) }

// checkCircles refuses services that are part of themselves.
func (c *Composition) checkCircles(k Kind) error {
	checked := map[string]bool{}
	var visit func(name string, way []string) error // a file is too small for much depth
	visit = func(name string, way []string) error {
		if i := slices.Index(way, name); i >= 0 {
			return c.Error(c.services[k][name].Line, fmt.Errorf("services of [%s] refer to each other in a circle: %s", k, strings.Join(append(way[i:], name), " -> ")))
		}
		if checked[name] {
			return nil
		}
		for _, r := range c.services[k][name].refs() {
			if IsName(r[1]) {
				if err := visit(r[1], append(slices.Clone(way), name)); err != nil {
					return err
				}
			}
		}
		checked[name] = true
		return nil
	}
	var errs []error
	for _, name := range c.names(k) {
		if err := visit(name, nil); err != nil {
			errs = append(errs, err)
			break
		}
	}
	return errors.Join(errs...)
}
