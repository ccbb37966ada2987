package storeaddr

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/objectstore/bucket"
)

const (
	// maxNesting is how many addresses may be within each other.
	maxNesting = 8
	// maxAddress is the longest address, in bytes.
	maxAddress = 64 << 10
	// chunkSizeParam is the parameter of object stores that only blobs have.
	chunkSizeParam = "avg_chunk_size"
)

// address is a parsed address. What is opened by another package is whole, and
// checked there.
type address struct {
	scheme string // memory, file, sqlite, objectstore, grpc, bigtable, cache, lru, keyfile-signing, nix
	path   string // of file and sqlite: absolute and clean
	// foreign says that the address is one of tvix and snix (sled, redb), of whose
	// databases one may be at path.
	foreign bool
	whole   string // of objectstore, grpc, bigtable and nix
	// References to services; from an address they are addresses.
	near, far string // of cache
	inner     string // of keyfile-signing
	keyFile   string // of keyfile-signing: absolute and clean
	capacity  int    // of lru
	// Of nix, from a composition: what paths are brought into. Empty: the root.
	blobs, directories string
}

// parse parses the address of a service of kind k, and those within it.
func parse(k kind, s string) (address, error) {
	return parseNested(k, s, 0)
}

func parseNested(k kind, s string, depth int) (address, error) {
	a, err := parseAny(k, s, depth)
	if err != nil {
		return address{}, fmt.Errorf("%s address %q: %w", k, redact(s), err)
	}
	return a, nil
}

// redact cuts off what may hold credentials.
func redact(s string) string {
	s, _, cut := strings.Cut(s, "?")
	if i := strings.LastIndexByte(s, '@'); i >= 0 {
		scheme, _, _ := strings.Cut(s, ":")
		s = scheme + "://..." + s[i:]
	}
	if len(s) > 1000 {
		s, cut = s[:1000], true
	}
	if cut {
		s += "?..."
	}
	return s
}

func parseAny(k kind, s string, depth int) (address, error) {
	scheme, _, ok := strings.Cut(s, ":")
	scheme = strings.ToLower(scheme)
	f := form(k, scheme)
	switch {
	case !ok || f == "":
		return address{}, fmt.Errorf("unknown scheme %q (there is: %s)", cutText(scheme), strings.Join(k.forms(), ", "))
	case len(s) > maxAddress:
		return address{}, fmt.Errorf("longer than %d bytes", maxAddress)
	case depth > maxNesting:
		return address{}, fmt.Errorf("more than %d addresses are within each other", maxNesting)
	}
	switch {
	case strings.HasPrefix(scheme, "objectstore+"):
		return parseBucket(k, s)
	case strings.HasPrefix(scheme, "grpc+"):
		return address{scheme: "grpc", whole: s}, nil
	case scheme == "bigtable":
		return address{scheme: scheme, whole: s}, nil
	case strings.HasPrefix(scheme, "nix+"):
		return parseBinaryCache(s)
	}
	u, err := url.Parse(s)
	if err != nil {
		var e *url.Error // its text repeats the address
		if errors.As(err, &e) {
			err = e.Err
		}
		return address{}, err
	}
	// A + stands for itself: it is in many addresses, and a space in none.
	query, err := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	switch {
	case err != nil:
		return address{}, errors.New("parameters: not of the form NAME=VALUE&NAME=VALUE with %XX for what is not a letter or digit")
	case u.Host != "" || u.User != nil:
		return address{}, fmt.Errorf("a host is not possible here: write %s", f)
	case u.Fragment != "" || strings.Contains(s, "#"):
		return address{}, errors.New("# is not possible here: write it as %23")
	case u.Opaque != "":
		return address{}, fmt.Errorf("the path is not absolute: write %s", f)
	}
	switch scheme {
	case "file", "sqlite", "sled", "redb":
		return parsePath(k, scheme, u.Path, query)
	}
	if u.Path != "" {
		return address{}, fmt.Errorf("%s: has no path", scheme)
	}
	return parseParams(k, scheme, query, depth)
}

// cutText bounds what an error repeats.
func cutText(s string) string { return s[:min(len(s), 100)] }

// parseBucket checks the address of an object store.
func parseBucket(k kind, s string) (address, error) {
	var extra []string
	if k == blobs {
		extra = append(extra, chunkSizeParam)
	}
	if _, err := bucket.ParseAddress(s, extra...); err != nil {
		if within := errors.Unwrap(err); within != nil { // without the address, which is said already
			err = within
		}
		return address{}, err
	}
	return address{scheme: "objectstore", whole: s}, nil
}

// parseBinaryCache checks the address of a binary cache.
func parseBinaryCache(s string) (address, error) {
	a, err := binarycache.ParseAddress(s)
	if err == nil {
		err = a.CheckTrust()
	} else if within := errors.Unwrap(err); within != nil { // without the address, which is said already
		err = within
	}
	if err != nil {
		return address{}, err
	}
	return address{scheme: "nix", whole: s}, nil
}

// parsePath checks the address of files of this machine.
func parsePath(k kind, scheme, p string, query url.Values) (address, error) {
	for name := range query {
		return address{}, fmt.Errorf("unknown parameter %q (%s has none; a ? in a path is written %%3F)", name, scheme)
	}
	a := address{scheme: scheme, path: path.Clean(p), foreign: scheme == "sled" || scheme == "redb"}
	if a.foreign {
		a.scheme = "sqlite"
		if k == blobs {
			a.scheme = "file"
		}
	}
	switch {
	case p == "" && a.foreign:
		return address{scheme: "memory"}, nil
	case p == "":
		return address{}, fmt.Errorf("the path is missing: write %s", form(k, scheme))
	case a.path == "/":
		return address{}, errors.New("the root directory cannot be a store")
	case strings.IndexByte(a.path, 0) >= 0:
		return address{}, errors.New("the path has a NUL")
	}
	return a, nil
}

// parseParams checks an address that is all parameters.
func parseParams(k kind, scheme string, query url.Values, depth int) (address, error) {
	names := map[string][]string{
		"cache": {"near", "far"}, "combined": {"near", "far"},
		"lru":             {"capacity"},
		"keyfile-signing": {"inner", "keyfile"},
	}[scheme]
	for name, values := range query {
		switch {
		case len(names) == 0:
			return address{}, fmt.Errorf("unknown parameter %q (%s has none)", cutText(name), scheme)
		case !slices.Contains(names, name):
			return address{}, fmt.Errorf("unknown parameter %q (there is: %s; a & within an address is written %%26)", cutText(name), strings.Join(names, ", "))
		case len(values) > 1:
			return address{}, fmt.Errorf("parameter %q is there twice", name)
		}
	}
	for _, name := range names {
		if query.Get(name) == "" {
			return address{}, fmt.Errorf("parameter %q is missing: write %s", name, form(k, scheme))
		}
	}
	a := address{scheme: scheme}
	switch scheme {
	case "cache", "combined":
		a.scheme, a.near, a.far = "cache", query.Get("near"), query.Get("far")
	case "lru":
		n, err := strconv.ParseUint(query.Get("capacity"), 10, 32)
		if err != nil || n == 0 {
			return address{}, fmt.Errorf("capacity: %q is not a number from 1 to 4294967295", cutText(query.Get("capacity")))
		}
		a.capacity = int(n)
	case "keyfile-signing":
		a.inner, a.keyFile = query.Get("inner"), filepath.Clean(query.Get("keyfile"))
		if !filepath.IsAbs(a.keyFile) {
			return address{}, fmt.Errorf("keyfile: %q is not an absolute path", cutText(a.keyFile))
		}
	}
	for _, ref := range []string{a.near, a.far, a.inner} {
		if ref == "" {
			continue
		}
		if _, err := parseNested(k, ref, depth+1); err != nil {
			return address{}, err
		}
	}
	return a, nil
}

// form is the form of the addresses of k with that scheme; empty if there is
// none. All schemes of object stores are known to the package bucket.
func form(k kind, scheme string) string {
	for _, f := range k.forms() {
		if strings.HasPrefix(f, scheme+":") || strings.HasPrefix(f, "objectstore+") && strings.HasPrefix(scheme, "objectstore+") {
			return f
		}
	}
	return ""
}

// fileAddress is the address with that scheme of an absolute path.
func fileAddress(scheme, path string) string {
	return (&url.URL{Scheme: scheme, Path: path}).String()
}
