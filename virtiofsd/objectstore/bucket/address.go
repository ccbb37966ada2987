package bucket

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of bucket.
type Kind string

// The kinds of buckets.
const (
	File   Kind = "file"
	Memory Kind = "memory"
	S3     Kind = "s3"
	GCS    Kind = "gs"
	Azure  Kind = "az"
	HTTP   Kind = "http"
)

// kinds are the kinds of the schemes.
var kinds = map[string]Kind{
	"file": File, "memory": Memory,
	"s3": S3, "s3a": S3,
	"gs": GCS,
	"az": Azure, "adl": Azure, "azure": Azure, "abfs": Azure, "abfss": Azure,
	"http": HTTP, "https": HTTP,
}

// Address is the parsed address of a bucket. Make one with [ParseAddress].
type Address struct {
	Kind Kind
	// Name is that of the bucket or container; for HTTP scheme and host.
	Name string
	// Prefix is what all keys begin with, without slashes around it; for File
	// the absolute directory.
	Prefix string
	// Extra holds the parameters of the store that lies in the bucket.
	Extra map[string]string

	account string            // of Azure, if the address has it
	params  map[string]string // by their canonical names
	timeout time.Duration
}

// String is the address without parameters, which may hold credentials.
func (a Address) String() string {
	switch a.Kind {
	case File:
		return "file://" + a.Prefix
	case HTTP:
		return a.Name + "/" + a.Prefix
	}
	return string(a.Kind) + "://" + path.Join(a.Name, a.Prefix)
}

// ParseAddress parses an address, with or without "objectstore+" in front.
// extra names parameters that are not the bucket's.
func ParseAddress(raw string, extra ...string) (Address, error) {
	a, err := parseAddress(raw, extra)
	if err != nil {
		return Address{}, fmt.Errorf("object store address %q: %w", redact(raw), err)
	}
	return a, nil
}

// redact cuts off what may hold credentials.
func redact(raw string) string {
	head, _, cut := strings.Cut(raw, "?")
	if scheme, rest, ok := strings.Cut(head, "://"); ok {
		host, _, _ := strings.Cut(rest, "/")
		if i := strings.LastIndexByte(host, '@'); i >= 0 && strings.Contains(host[:i], ":") {
			head = scheme + "://..." + rest[i:]
		}
	}
	if cut {
		head += "?..."
	}
	return head
}

func parseAddress(raw string, extra []string) (Address, error) {
	u, err := url.Parse(strings.TrimPrefix(raw, "objectstore+"))
	if err != nil {
		var wrapped *url.Error // its text repeats the address, with credentials
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return Address{}, err
	}
	kind, ok := kinds[u.Scheme]
	if !ok {
		return Address{}, fmt.Errorf("unknown scheme %q (of file, memory, s3, gs, az, abfss, http, https)", u.Scheme)
	}
	a := Address{Kind: kind, Name: u.Host}
	switch {
	case u.Opaque != "" || u.Fragment != "":
		return Address{}, fmt.Errorf("not of the form %s://...", u.Scheme)
	case u.User != nil && !strings.HasPrefix(u.Scheme, "abfs"):
		return Address{}, errors.New("a user in the address is not supported: credentials are parameters or come from the environment")
	}
	for _, part := range strings.Split(strings.Trim(u.Path, "/"), "/") {
		if part == "." || part == ".." || part == "" && strings.Trim(u.Path, "/") != "" {
			return Address{}, fmt.Errorf("the path %q has an empty, \".\" or \"..\" part", u.Path)
		}
	}
	a.Prefix = strings.Trim(u.Path, "/")
	if err := a.setName(u); err != nil {
		return Address{}, err
	}
	if err := a.parseQuery(u.RawQuery, extra); err != nil {
		return Address{}, err
	}
	return a, a.check()
}

// setName checks the host and sets Name by the rules of the kind.
func (a *Address) setName(u *url.URL) error {
	switch a.Kind {
	case File:
		if u.Host != "" {
			return fmt.Errorf("file://%s names a host: write three slashes before the directory", u.Host)
		}
		if a.Prefix == "" {
			return errors.New("no directory")
		}
		a.Prefix = "/" + a.Prefix
	case Memory:
		if u.Host != "" {
			return fmt.Errorf("memory://%s names a host: write memory:///", u.Host)
		}
	case HTTP:
		if u.Host == "" {
			return errors.New("no host")
		}
		for _, cloud := range []string{".amazonaws.com", ".r2.cloudflarestorage.com", ".core.windows.net", ".fabric.microsoft.com"} {
			if strings.HasSuffix(u.Hostname(), cloud) {
				return fmt.Errorf("%s is a cloud's own: write objectstore+s3://BUCKET/PREFIX?endpoint=https://HOST or objectstore+az://CONTAINER/PREFIX?account_name=NAME", u.Host)
			}
		}
		a.Name = u.Scheme + "://" + u.Host
	case Azure:
		if u.User != nil { // abfs[s]://CONTAINER@ACCOUNT.dfs.core.windows.net/PREFIX
			a.Name = u.User.Username()
			a.account, _, _ = strings.Cut(u.Host, ".")
		}
	}
	return nil
}

// parseQuery takes the parameters. A name counts in any case of letters.
func (a *Address) parseQuery(query string, extra []string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	a.params, a.Extra = map[string]string{}, map[string]string{}
	for _, given := range sortedKeys(values) {
		if len(values[given]) != 1 {
			return fmt.Errorf("parameter %q is given %d times", given, len(values[given]))
		}
		name, value := strings.ToLower(given), values[given][0]
		if slices.Contains(extra, name) {
			a.Extra[name] = value
			continue
		}
		p, err := findParam(a.Kind, name)
		if err != nil {
			return err
		}
		if _, twice := a.params[p.name()]; twice {
			return fmt.Errorf("parameter %q is given twice, under two of its names", p.name())
		}
		if err := p.check(value); err != nil {
			return fmt.Errorf("parameter %q: %w", given, err)
		}
		a.params[p.name()] = value
	}
	return nil
}

// check checks what depends on several parts of the address.
func (a *Address) check() error {
	if named := a.params["bucket"]; named != "" {
		if a.Name != "" && a.Name != named {
			return fmt.Errorf("the address names the bucket %q and its parameters %q", a.Name, named)
		}
		a.Name = named
	}
	if a.Name == "" && a.Kind != File && a.Kind != Memory {
		return errors.New("no bucket")
	}
	a.timeout = defaultTimeout
	if t, ok := a.params["timeout"]; ok {
		a.timeout, _ = parseDuration(t) // checked before
	}
	for _, endpoint := range []string{a.params["endpoint"], a.Name} {
		if strings.HasPrefix(endpoint, "http://") && !a.is("allow_http") {
			return fmt.Errorf("%s is not encrypted: add allow_http=true, or use https", endpoint)
		}
	}
	return nil
}

// is says whether a parameter is given and true.
func (a Address) is(name string) bool {
	v, _ := parseBool(a.params[name])
	return v
}
