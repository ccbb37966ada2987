package kconfig

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Value is an option's value as it stands in the file: y, m, n (also for
// "is not set"), a number, or a string with its quotes.
type Value string

const (
	Yes    Value = "y"
	Module Value = "m"
	No     Value = "n"
)

// Config is a parsed .config.
type Config struct {
	values map[string]Value
}

// Get returns the value of the option, named without CONFIG_. An option that
// the file does not name is off, as for the kernel.
func (c *Config) Get(name string) Value {
	if v, ok := c.values[name]; ok {
		return v
	}
	return No
}

// Len is the number of options the file names.
func (c *Config) Len() int { return len(c.values) }

// Names are the names of the options the file names, in order, without CONFIG_.
func (c *Config) Names() []string { return slices.Sorted(maps.Keys(c.values)) }

// Diff returns the names of the options, without CONFIG_, that two
// configurations give different values, in order.
func Diff(a, b *Config) []string {
	var names []string
	for _, name := range slices.Compact(slices.Sorted(slices.Values(append(a.Names(), b.Names()...)))) {
		if a.Get(name) != b.Get(name) {
			names = append(names, name)
		}
	}
	return names
}

// Line is the line of a .config that gives the option, named without CONFIG_,
// the value v.
func Line(name string, v Value) string {
	if v == No {
		return "# CONFIG_" + name + " is not set"
	}
	return "CONFIG_" + name + "=" + string(v)
}

// maxSize bounds a file; those of real kernels are below 1 MiB.
const maxSize = 16 << 20

// Parse reads a .config. A line that is neither a comment nor an option, or a
// file that names no option at all, is an error; the last of several values of
// an option counts, as in the kernel's own reader.
func Parse(r io.Reader) (*Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("more than %d MiB: not a kernel configuration", maxSize>>20)
	}
	c := &Config{values: make(map[string]Value)}
	s := bufio.NewScanner(bytes.NewReader(data))
	s.Buffer(nil, maxSize+1)
	for n := 1; s.Scan(); n++ {
		name, value, ok := parseLine(strings.TrimRight(s.Text(), " \t\r"))
		if !ok {
			return nil, fmt.Errorf("line %d: %.60q is no option of a kernel configuration", n, s.Text())
		}
		if name != "" {
			c.values[name] = value
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(c.values) == 0 {
		return nil, fmt.Errorf("names no option: not a kernel configuration")
	}
	return c, nil
}

// parseLine returns an empty name for a line that says nothing.
func parseLine(line string) (name string, value Value, ok bool) {
	if line == "" {
		return "", "", true
	}
	if rest, isComment := strings.CutPrefix(line, "#"); isComment {
		rest, unset := strings.CutSuffix(strings.TrimPrefix(rest, " "), " is not set")
		name, isOption := strings.CutPrefix(rest, "CONFIG_")
		if unset && isOption && validName(name) {
			return name, No, true
		}
		return "", "", true
	}
	key, v, hasValue := strings.Cut(line, "=")
	name, isOption := strings.CutPrefix(key, "CONFIG_")
	if !isOption || !hasValue || v == "" || !validName(name) {
		return "", "", false
	}
	return name, Value(v), true
}

func validName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && !(r >= '0' && r <= '9') && !(r >= 'A' && r <= 'Z') && !(r >= 'a' && r <= 'z')
	})
}

// Has says whether the file names the option, be it as off.
func (c *Config) Has(name string) bool {
	_, ok := c.values[name]
	return ok
}
