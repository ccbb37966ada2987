package grpcstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

// maxSocketPath is the longest path of a unix socket in bytes (unix(7)).
const maxSocketPath = 107

// address is a parsed address of a server.
type address struct {
	text   string // what errors call the server
	socket string // the path of a unix socket; empty for TCP
	host   string // HOST:PORT for TCP
	tls    bool
	// Parameters.
	waitConnect bool
	tokenFile   string
	caFile      string
}

// parseAddress parses grpc+http://HOST[:PORT], grpc+https://HOST[:PORT] and
// grpc+unix:///PATH. Parameters: wait-connect=1 (connect at once and fail if
// that fails; any other value is the default), token-file=PATH, and with https
// ca-file=PATH.
func parseAddress(s string) (address, error) {
	a, err := parseURL(s)
	if err != nil {
		return address{}, fmt.Errorf("address %q: %w", s, err)
	}
	return a, nil
}

func parseURL(s string) (address, error) {
	u, err := url.Parse(s)
	if err != nil {
		var e *url.Error // its text repeats the address
		if errors.As(err, &e) {
			err = e.Err
		}
		return address{}, err
	}
	a := address{}
	switch {
	case u.User != nil:
		return address{}, errors.New("a user is not possible here (a token goes into a file: ?token-file=PATH)")
	case u.Fragment != "" || strings.Contains(s, "#"):
		return address{}, errors.New("# is not possible here: write it as %23")
	}
	switch u.Scheme {
	case "grpc+unix":
		switch {
		case u.Host != "":
			return address{}, errors.New("a unix socket has no host: write grpc+unix:///PATH")
		case !filepath.IsAbs(u.Path):
			return address{}, errors.New("the path is not absolute: write grpc+unix:///PATH")
		case strings.IndexByte(u.Path, 0) >= 0:
			return address{}, errors.New("the path has a NUL")
		case len(u.Path) > maxSocketPath:
			return address{}, fmt.Errorf("the path of the socket has %d bytes, at most %d are possible", len(u.Path), maxSocketPath)
		}
		a.socket = u.Path
		a.text = "grpc+unix://" + u.Path
	case "grpc+http", "grpc+https":
		a.tls = u.Scheme == "grpc+https"
		switch {
		case u.Opaque != "" || u.Hostname() == "":
			return address{}, fmt.Errorf("the host is missing: write %s://HOST:PORT", u.Scheme)
		case u.Path != "":
			return address{}, fmt.Errorf("a path (%q) is not possible here: write %s://%s", u.Path, u.Scheme, u.Host)
		}
		port := u.Port()
		if port == "" {
			port = map[bool]string{false: "80", true: "443"}[a.tls]
		}
		a.host = net.JoinHostPort(u.Hostname(), port)
		a.text = u.Scheme + "://" + u.Host
	default:
		return address{}, fmt.Errorf("unknown scheme %q (there is: grpc+http, grpc+https, grpc+unix)", u.Scheme)
	}
	return a, a.parseParameters(u)
}

func (a *address) parseParameters(u *url.URL) error {
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	for name, values := range query {
		if len(values) > 1 {
			return fmt.Errorf("parameter %q is there twice", name)
		}
		switch {
		case name == "wait-connect":
			a.waitConnect = values[0] == "1"
		case name == "token-file":
			a.tokenFile = values[0]
		case name == "ca-file" && a.tls:
			a.caFile = values[0]
		default:
			return fmt.Errorf("unknown parameter %q (there is: wait-connect, token-file, and ca-file for grpc+https)", name)
		}
	}
	if a.tokenFile != "" && !a.tls && !a.local() {
		return errors.New("a token would cross the network readable by all: use grpc+https")
	}
	return nil
}

// local says whether what is sent stays on this machine.
func (a *address) local() bool {
	if a.socket != "" {
		return true
	}
	host, _, err := net.SplitHostPort(a.host)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
