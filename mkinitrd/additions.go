package main

import (
	"fmt"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"storeboot/templates"
)

// additions are what the command line puts on top of a template.
type additions struct {
	parameters map[string]string
	modules    []string
	commands   []string
	binaries   []string
	files      []string
}

func (a *additions) flags(f *pflag.FlagSet) {
	f.Var((*parameterValue)(&a.parameters), "set", "value of a parameter of the template, `NAME=VALUE`; may be repeated")
	f.StringArrayVar(&a.modules, "module", nil, "add a kernel module: `NAME`, \"NAME?\" or \"NAME PARAMETER=VALUE\"; may be repeated")
	f.StringArrayVar(&a.commands, "command", nil, "add a command: `NAME` or an import path; may be repeated")
	f.StringArrayVar(&a.binaries, "binary", nil, "add a program of this machine with its libraries: `NAME` or path; may be repeated")
	f.StringArrayVar(&a.files, "file", nil, "add a file: `SOURCE:PATH`; may be repeated")
}

// apply is the template with the additions: they pass through the template's
// own parser, and so mean the same as there.
func (a *additions) apply(t *templates.Template) (*templates.Template, error) {
	out := *t
	for _, list := range []struct {
		flag, key string
		values    []string
	}{{"--module", "modules", a.modules}, {"--command", "commands", a.commands}, {"--binary", "binaries", a.binaries}} {
		for _, v := range list.values {
			x, err := templates.Parse(list.flag, []byte(list.key+": ["+strconv.Quote(escape(v))+"]\n"))
			if err != nil {
				return nil, err
			}
			out.Modules = append(slices.Clip(out.Modules), flagged(x.Modules, list.flag)...)
			for _, c := range x.Commands {
				c.At = templates.Position{File: list.flag}
				if !slices.ContainsFunc(out.Commands, func(o templates.Command) bool { return o.Name == c.Name && o.Import == c.Import }) {
					out.Commands = append(slices.Clip(out.Commands), c)
				}
			}
			for _, b := range x.Binaries {
				b.At = templates.Position{File: list.flag}
				// A path of this machine is one of the working directory's, but
				// a program in the image has to be somewhere.
				if strings.HasPrefix(v, ".") {
					b.Path = "/bin/" + filepath.Base(b.Source)
				}
				out.Binaries = append(slices.Clip(out.Binaries), b)
			}
		}
	}
	for _, v := range a.files {
		at := strings.LastIndex(v, ":")
		if at < 1 || !path.IsAbs(v[at+1:]) || path.Clean(v[at+1:]) != v[at+1:] {
			return nil, fmt.Errorf("--file %q: want SOURCE:PATH, where PATH is absolute", v)
		}
		out.Files = append(slices.Clip(out.Files), templates.File{Source: v[:at], Path: v[at+1:], At: templates.Position{File: "--file"}})
	}
	return &out, nil
}

// escape keeps a value from being taken for one with parameters.
func escape(s string) string { return strings.ReplaceAll(s, "${", "$${") }

func flagged(list []templates.Module, flag string) []templates.Module {
	for i := range list {
		list[i].At = templates.Position{File: flag}
	}
	return list
}

// parameterValue is NAME=VALUE, any number of times.
type parameterValue map[string]string

func (p *parameterValue) String() string { return "" }
func (p *parameterValue) Type() string   { return "NAME=VALUE" }

func (p *parameterValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return fmt.Errorf("want NAME=VALUE")
	}
	if *p == nil {
		*p = parameterValue{}
	}
	if _, twice := (*p)[name]; twice {
		return fmt.Errorf("parameter %s is given twice", name)
	}
	(*p)[name] = value
	return nil
}

// sizeValue is a number of bytes, with K, M or G for powers of 1024.
type sizeValue int64

func (v *sizeValue) String() string {
	if *v == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*v), 10)
}

func (v *sizeValue) Type() string { return "SIZE" }

func (v *sizeValue) Set(s string) error {
	digits, shift := s, 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(s, unit); ok {
			digits, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if err != nil || n == 0 {
		return fmt.Errorf("want a number of bytes, or one with K, M or G behind it")
	}
	*v = sizeValue(n << shift)
	return nil
}

// sourceDate is the time of entries: that of SOURCE_DATE_EPOCH
// (https://reproducible-builds.org/specs/source-date-epoch), or 0.
func sourceDate() (uint32, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > math.MaxUint32 {
		return 0, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970, up to %d", s, uint32(math.MaxUint32))
	}
	return uint32(n), nil
}
