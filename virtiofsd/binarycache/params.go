package binarycache

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"storeboot/virtiofsd/narcodec"
	"storeboot/virtiofsd/pathinfo"
)

// params are the parameters that the cache can have, with what takes a value.
func (a *Address) params() map[string]func(string) error {
	p := map[string]func(string) error{
		"trusted-public-keys": func(v string) error {
			// Where others write + for a space, it follows the end of a key.
			keys, err := pathinfo.ParsePublicKeys(strings.ReplaceAll(v, "=+", "= "))
			a.Keys = append(a.Keys, keys...)
			return err
		},
		"allow-unsigned": isTrue(&a.AllowUnsigned),
		"priority": func(v string) error {
			n, err := strconv.ParseUint(v, 10, 31)
			if err != nil {
				return fmt.Errorf("%q is not a number from 0 to %d", v, 1<<31-1)
			}
			priority := int(n)
			a.Priority = &priority
			return nil
		},
		"timeout":       isTime(&a.Timeout),
		"stall-timeout": isTime(&a.Stall),
		"retries": func(v string) error {
			n, err := strconv.ParseUint(v, 10, 8)
			if err != nil || n > 20 {
				return fmt.Errorf("%q is not a number from 0 to 20", v)
			}
			a.Retries = int(n)
			return nil
		},
		"compression": func(v string) error {
			a.Compression = v
			return narcodec.CheckWriter(v)
		},
		"castore": func(v string) error {
			a.Castore = v
			if !strings.HasPrefix(v, "grpc+") {
				return fmt.Errorf("%q is not an address of gRPC services: write grpc+http://HOST:PORT or grpc+unix:///PATH", redact(v))
			}
			return nil
		},
		"castore-lazy": isTrue(&a.CastoreLazy),
	}
	switch a.Scheme {
	case "http", "https":
		p["token-file"], p["netrc-file"] = isFile(&a.TokenFile), isFile(&a.NetrcFile)
	case "s3":
		p["region"], p["profile"] = isText(&a.region), isText(&a.profile)
		p["endpoint"] = func(v string) error {
			if !strings.Contains(v, "://") {
				v = "https://" + v // as Nix has it
			}
			u, err := url.Parse(v)
			if err != nil || u.Host == "" || u.User != nil || u.Scheme != "http" && u.Scheme != "https" {
				return errors.New("not of the form HOST or http://HOST")
			}
			a.endpoint = v
			return nil
		}
	}
	return p
}

func isTrue(to *bool) func(string) error {
	return func(v string) (err error) {
		switch v {
		case "1", "true":
			*to = true
		case "0", "false":
			*to = false
		default:
			err = fmt.Errorf("%q is neither 1 nor 0", v)
		}
		return err
	}
}

func isTime(to *time.Duration) func(string) error {
	return func(v string) error {
		d, err := time.ParseDuration(v)
		if err != nil {
			d, err = time.ParseDuration(v + "s")
		}
		if err != nil || d < time.Millisecond || d > 24*time.Hour {
			return fmt.Errorf("%q is not a time from 1ms to 24h, such as 500ms, 30s or 5m", v)
		}
		*to = d
		return nil
	}
}

func isFile(to *string) func(string) error {
	return func(v string) error {
		if !filepath.IsAbs(v) {
			return fmt.Errorf("%q is not an absolute path", v)
		}
		*to = filepath.Clean(v)
		return nil
	}
}

func isText(to *string) func(string) error {
	return func(v string) error {
		if *to = v; v == "" {
			return errors.New("empty")
		}
		return nil
	}
}
