package binarycache

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"storeboot/virtiofsd/pathinfo"
)

const (
	// defaultTimeout is how long an answer is waited for.
	defaultTimeout = 30 * time.Second
	// defaultStall is how long a transfer may bring next to nothing.
	defaultStall = 30 * time.Second
	// defaultRetries is how often a request is repeated.
	defaultRetries = 4
	// maxAddress is the longest address, in bytes.
	maxAddress = 64 << 10
	// officialHost and officialKey are those of the cache that Nix trusts
	// unless it is told otherwise.
	officialHost = "cache.nixos.org"
	officialKey  = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
)

// Address is the parsed address of a cache. Make one with [ParseAddress].
type Address struct {
	// Scheme is http, https, file or s3.
	Scheme string
	// Host is the host and port, or the bucket.
	Host string
	// Path is that of the URL, with slashes around it; of file the absolute
	// directory, of s3 the prefix of all keys without slash in front.
	Path string

	// Keys are those of which one has to have signed a path.
	Keys []pathinfo.PublicKey
	// AllowUnsigned takes paths that none of Keys has signed.
	AllowUnsigned bool
	// Priority is the place of the cache among others, the lowest first; nil:
	// what nix-cache-info says.
	Priority *int
	// Timeout is how long an answer is waited for, Stall how long a transfer
	// may stand still.
	Timeout, Stall time.Duration
	// Retries is how often a request that failed is repeated.
	Retries int
	// TokenFile holds the bearer token of requests; NetrcFile users and
	// passwords. Empty: none.
	TokenFile, NetrcFile string
	// Compression is that of uploads, empty if the address does not say.
	Compression string
	// Castore is the address of the blobs and directories that castore URLs of
	// the cache name, empty if there is none.
	Castore string
	// CastoreLazy says that the services of Castore are trusted as a store is, so
	// that contents are read there when they are needed.
	CastoreLazy bool

	region, endpoint, profile string // of s3
}

// String is the address without parameters.
func (a Address) String() string {
	switch a.Scheme {
	case "file":
		return "file://" + a.Path
	case "s3":
		return strings.TrimSuffix("s3://"+a.Host+"/"+a.Path, "/")
	}
	return strings.TrimSuffix(a.Scheme+"://"+a.Host+a.Path, "/")
}

// IsAddress says whether s has a scheme of addresses, with "nix+" or without.
func IsAddress(s string) bool {
	scheme, _, ok := strings.Cut(strings.TrimPrefix(s, "nix+"), ":")
	return ok && slices.Contains([]string{"http", "https", "file", "s3"}, scheme)
}

// ParseAddress parses the address of a cache. Parameters:
//
//	trusted-public-keys=KEYS  NAME:BASE64, with %20 between several; repeatable
//	allow-unsigned=1          take paths without signature
//	priority=N                instead of the cache's own
//	timeout=TIME              for an answer: 500ms, 30s, 5m
//	stall-timeout=TIME        for a transfer that stands still
//	retries=N                 of a request that failed, 0 to 20
//	token-file=FILE           bearer token
//	netrc-file=FILE           users and passwords (else NETRC or ~/.netrc)
//	compression=NAME          of uploads: none, zstd, xz, gzip
//	castore=ADDRESS           gRPC services that hold what castore URLs name
//	castore-lazy=1            read contents there when they are needed
//	region, endpoint, profile of s3
//
// A + in a parameter is itself. The keys of cache.nixos.org are known. An error
// leaves the parameters out.
func ParseAddress(s string) (Address, error) {
	a, err := parseAddress(s)
	if err != nil {
		return Address{}, fmt.Errorf("binary cache address %q: %w", redact(s), err)
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
	if len(s) > 500 {
		s, cut = s[:500], true
	}
	if cut {
		s += "?..."
	}
	return s
}

func parseAddress(s string) (Address, error) {
	if len(s) > maxAddress {
		return Address{}, fmt.Errorf("longer than %d bytes", maxAddress)
	}
	u, err := url.Parse(strings.TrimPrefix(s, "nix+"))
	if err != nil {
		var e *url.Error // its text repeats the address
		if errors.As(err, &e) {
			err = e.Err
		}
		return Address{}, err
	}
	if strings.Contains(s, "#") {
		return Address{}, errors.New("# is not possible here: write it as %23")
	}
	a := Address{Scheme: u.Scheme, Host: u.Host, Timeout: defaultTimeout, Stall: defaultStall, Retries: defaultRetries}
	if err := a.setPlace(u); err != nil {
		return Address{}, err
	}
	query, err := url.ParseQuery(strings.ReplaceAll(u.RawQuery, "+", "%2B"))
	if err != nil {
		return Address{}, errors.New("parameters: not of the form NAME=VALUE&NAME=VALUE with %XX for what is not a letter or digit")
	}
	if err := a.setParams(query); err != nil {
		return Address{}, err
	}
	if a.Keys == nil && !query.Has("trusted-public-keys") && u.Hostname() == officialHost {
		a.Keys, err = pathinfo.ParsePublicKeys(officialKey)
	}
	return a, err
}

// setPlace checks and sets where the cache is.
func (a *Address) setPlace(u *url.URL) error {
	if u.User != nil {
		return errors.New("a user in the address is not supported: put it into a netrc file, or a token into that of token-file=FILE")
	}
	if u.Opaque != "" {
		return fmt.Errorf("not of the form %s://...", u.Scheme)
	}
	clean := path.Clean("/" + u.Path)
	if strings.IndexByte(clean, 0) >= 0 {
		return errors.New("the path has a NUL")
	}
	switch u.Scheme {
	case "http", "https":
		if u.Hostname() == "" {
			return errors.New("no host")
		}
		a.Path = strings.TrimSuffix(clean, "/") + "/"
	case "file":
		if u.Host != "" || u.Path == "" || clean == "/" {
			return errors.New("not of the form file:///DIR")
		}
		a.Path = clean
	case "s3":
		if u.Host == "" {
			return errors.New("no bucket")
		}
		if a.Path = strings.TrimPrefix(clean, "/"); a.Path != "" {
			a.Path += "/"
		}
	default:
		return fmt.Errorf("unknown scheme %q (there is: http, https, file, s3)", u.Scheme[:min(len(u.Scheme), 100)])
	}
	return nil
}

// setParams takes the parameters.
func (a *Address) setParams(query url.Values) error {
	known := a.params()
	for _, name := range slices.Sorted(maps.Keys(query)) {
		set := known[name]
		if set == nil {
			return fmt.Errorf("unknown parameter %q (there is: %s)", name[:min(len(name), 100)], strings.Join(slices.Sorted(maps.Keys(known)), ", "))
		}
		if len(query[name]) > 1 && name != "trusted-public-keys" {
			return fmt.Errorf("parameter %q is there twice", name)
		}
		for _, value := range query[name] {
			if err := set(value); err != nil {
				return fmt.Errorf("parameter %q: %w", name, err)
			}
		}
	}
	if a.CastoreLazy && a.Castore == "" {
		return errors.New(`parameter "castore-lazy": it needs castore=ADDRESS`)
	}
	return nil
}
