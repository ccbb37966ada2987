package storeaddr

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"strings"
)

// kind is one of the three services of a store.
type kind string

const (
	blobs       kind = "blob service"
	directories kind = "directory service"
	pathInfos   kind = "path info service"
)

// forms are the addresses that a kind of service can have.
func (k kind) forms() []string {
	if k == blobs {
		return []string{"memory:", "file:///DIR"}
	}
	return []string{"memory:", "sqlite:///FILE"}
}

// address is a parsed address.
type address struct {
	scheme string
	path   string // absolute and clean; empty if the scheme has none
}

// parse parses the address of a service of kind k.
func parse(k kind, s string) (address, error) {
	a, err := parseAny(k, s)
	if err != nil {
		return address{}, fmt.Errorf("%s address %q: %w", k, s, err)
	}
	return a, nil
}

func parseAny(k kind, s string) (address, error) {
	scheme, _, ok := strings.Cut(s, ":")
	known := false
	for _, form := range k.forms() {
		known = known || strings.HasPrefix(form, strings.ToLower(scheme)+":")
	}
	if !ok || !known {
		return address{}, fmt.Errorf("unknown scheme %q (there is: %s)", scheme, strings.Join(k.forms(), ", "))
	}
	u, err := url.Parse(s)
	if err != nil {
		var e *url.Error // its text repeats the address
		if errors.As(err, &e) {
			err = e.Err
		}
		return address{}, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	switch {
	case err != nil:
		return address{}, fmt.Errorf("parameters: %w", err)
	case u.Host != "" || u.User != nil:
		return address{}, fmt.Errorf("a host is not possible here: write %s", form(k, u.Scheme))
	case u.Fragment != "" || strings.Contains(s, "#"):
		return address{}, errors.New("# is not possible here: write it as %23")
	case u.Opaque != "":
		return address{}, fmt.Errorf("the path is not absolute: write %s", form(k, u.Scheme))
	}
	for name := range query {
		return address{}, fmt.Errorf("unknown parameter %q (%s has none; a ? in a path is written %%3F)", name, u.Scheme)
	}
	if u.Scheme == "memory" {
		if u.Path != "" {
			return address{}, errors.New("memory: has no path")
		}
		return address{scheme: u.Scheme}, nil
	}
	switch clean := path.Clean(u.Path); {
	case u.Path == "":
		return address{}, fmt.Errorf("the path is missing: write %s", form(k, u.Scheme))
	case clean == "/":
		return address{}, errors.New("the root directory cannot be a store")
	case strings.IndexByte(clean, 0) >= 0:
		return address{}, errors.New("the path has a NUL")
	default:
		return address{u.Scheme, clean}, nil
	}
}

// form is the form of the addresses of k with that scheme.
func form(k kind, scheme string) string {
	for _, f := range k.forms() {
		if strings.HasPrefix(f, scheme+":") {
			return f
		}
	}
	return scheme + ":"
}

// fileAddress is the address with that scheme of an absolute path.
func fileAddress(scheme, path string) string {
	return (&url.URL{Scheme: scheme, Path: path}).String()
}
