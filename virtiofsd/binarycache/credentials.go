package binarycache

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// maxNetrc is the longest netrc or token file, in bytes.
const maxNetrc = 1 << 20

// credentials are what requests to a cache carry. A nil one is none.
type credentials struct {
	token          string
	user, password string
}

// readCredentials reads the files that the address names, or the netrc file of
// the user (NETRC, ~/.netrc), which need not be there.
func readCredentials(a Address) (*credentials, error) {
	if a.TokenFile != "" {
		text, err := readSmall(a.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read token: %w", err)
		}
		token := strings.TrimSpace(text)
		if token == "" || strings.ContainsAny(token, "\r\n\x00") {
			return nil, fmt.Errorf("read token: %s has to hold one line", a.TokenFile)
		}
		return &credentials{token: token}, nil
	}
	file := a.NetrcFile
	if file == "" {
		file = os.Getenv("NETRC")
	}
	if file == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, nil
		}
		file = filepath.Join(home, ".netrc")
	}
	text, err := readSmall(file)
	if errors.Is(err, fs.ErrNotExist) && a.NetrcFile == "" {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read netrc: %w", err)
	}
	host := a.Host
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	return parseNetrc(text, host), nil
}

func readSmall(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxNetrc+1))
	if err == nil && len(b) > maxNetrc {
		err = fmt.Errorf("%s: longer than %d bytes", file, maxNetrc)
	}
	return string(b), err
}

// parseNetrc finds the user of a host, or the default one (the format of
// ftp(1), without macros).
func parseNetrc(text, host string) *credentials {
	var c *credentials
	in := false
	words := strings.Fields(text)
	for i := 0; i < len(words); i++ {
		next := ""
		if i+1 < len(words) {
			next = words[i+1]
		}
		switch words[i] {
		case "machine", "default":
			if c != nil {
				return c
			}
			in = words[i] == "default" || next == host
			if words[i] == "machine" {
				i++
			}
			if in {
				c = &credentials{}
			}
		case "login", "password", "account":
			i++
			switch {
			case !in:
			case words[i-1] == "login":
				c.user = next
			case words[i-1] == "password":
				c.password = next
			}
		}
	}
	return c
}

// set adds the credentials to a request.
func (c *credentials) set(r *http.Request) {
	switch {
	case c == nil:
	case c.token != "":
		r.Header.Set("Authorization", "Bearer "+c.token)
	default:
		r.SetBasicAuth(c.user, c.password)
	}
}
