package composition

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// table is a table of the file from which keys are taken one by one, so that
// what is left over is unknown.
type table struct {
	md    *toml.MetaData
	keys  map[string]toml.Primitive
	known []string
	line  int // of the table itself
	fail  func(line int, err error) error
	err   error // the first one
	lacks error // the first key that is missing; a misspelt one says more
}

// lineProbe is an [toml.Unmarshaler] that always fails: the error has the line of
// the key, which the package tells in no other way.
type lineProbe struct{}

func (*lineProbe) UnmarshalTOML(any) error { return errors.New("here") }

// line is the line of a value; that of its first key for a table that only the
// headers of its tables name.
func line(md *toml.MetaData, p toml.Primitive) int {
	var e toml.ParseError
	if !errors.As(md.PrimitiveDecode(p, &lineProbe{}), &e) {
		return 0
	}
	first := e.Position.Line
	if first == 0 {
		for _, key := range tableOf(md, p) {
			if n := line(md, key); first == 0 || n != 0 && n < first {
				first = n
			}
		}
	}
	return first
}

// tableOf is a table. It is nil if the value is none, which the package toml
// does not call an error.
func tableOf(md *toml.MetaData, p toml.Primitive) map[string]toml.Primitive {
	var t map[string]toml.Primitive
	if md.PrimitiveDecode(p, &t) != nil {
		return nil
	}
	return t
}

// failed notes that a key is wrong.
func (t *table) failed(key string, err error) {
	if t.err == nil {
		t.err = t.fail(line(t.md, t.keys[key]), err)
	}
}

// missing notes that a key is not there.
func (t *table) missing(key string) {
	if t.lacks == nil {
		t.lacks = t.fail(t.line, fmt.Errorf("%s is missing", key))
	}
}

// take decodes the value of a key into v, a pointer to what is said by want. It
// says whether the key is there.
func (t *table) take(key, want string, v any) bool {
	t.known = append(t.known, key)
	p, ok := t.keys[key]
	if !ok {
		return false
	}
	if err := t.md.PrimitiveDecode(p, v); err != nil {
		t.failed(key, fmt.Errorf("%s has to be %s", key, want))
	}
	return true
}

// text takes a string that is not empty.
func (t *table) text(key string, required bool) string {
	var s string
	there := t.take(key, "a string", &s)
	switch {
	case there && s == "":
		t.failed(key, fmt.Errorf("%s is empty", key))
	case !there && required:
		t.missing(key)
	}
	return s
}

// number takes a number of at least 1.
func (t *table) number(key string) (n uint32, there bool) {
	there = t.take(key, "a number from 1 to 4294967295", &n)
	if there && n == 0 {
		t.failed(key, fmt.Errorf("%s has to be at least 1", key))
	}
	return n, there
}

func (t *table) boolean(key string) (b, there bool) {
	there = t.take(key, "true or false", &b)
	return b, there
}

// end refuses the keys that were not taken, and returns what is wrong.
func (t *table) end() error {
	for _, key := range slices.Sorted(maps.Keys(t.keys)) {
		if !slices.Contains(t.known, key) {
			t.failed(key, fmt.Errorf("unknown key %q (there is: %s)", key, strings.Join(t.known, ", ")))
		}
	}
	if t.err == nil {
		t.err = t.lacks
	}
	return t.err
}
