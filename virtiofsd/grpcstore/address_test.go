package grpcstore_test

import (
	"context"
	"strings"
	"testing"

	"storeboot/virtiofsd/grpcstore"
)

func TestAddress(t *testing.T) {
	for address, want := range map[string]string{
		"grpc+unix:///path/s":                       "grpc+unix:///path/s",
		"grpc+unix:/path/s":                         "grpc+unix:///path/s",
		"grpc+unix:///path/s?wait-connect=0":        "grpc+unix:///path/s",
		"grpc+http://[::1]:12345":                   "grpc+http://[::1]:12345",
		"grpc+http://localhost":                     "grpc+http://localhost",
		"grpc+https://localhost":                    "grpc+https://localhost",
		"grpc+https://h:1?ca-file=/x&token-file=/y": "grpc+https://h:1",
		"grpc+http://127.0.0.1:1?token-file=/y":     "grpc+http://127.0.0.1:1",
	} {
		if got, err := grpcstore.ParseAddress(address); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", address, got, err, want)
		}
	}
	for address, want := range map[string]string{
		"":                        "unknown scheme",
		"http://foo.example/test": "unknown scheme",
		"grpc+ftp://h":            "unknown scheme",
		"grpc+unix://host/p":      "no host",
		"grpc+unix:p":             "not absolute",
		"grpc+unix:":              "not absolute",
		"grpc+unix:///%00":        "NUL",
		"grpc+unix:///" + strings.Repeat("x", 120):    "107",
		"grpc+http://localhost/some-path":             "some-path",
		"grpc+http://localhost/":                      "path",
		"grpc+http://":                                "host is missing",
		"grpc+http://:8000":                           "host is missing",
		"grpc+http:localhost":                         "host is missing",
		"grpc+http://user@h":                          "token-file",
		"grpc+http://h#x":                             "%23",
		"grpc+http://h?nosuch=1":                      `"nosuch"`,
		"grpc+http://h?ca-file=/x":                    `"ca-file"`,
		"grpc+http://h?wait-connect=1&wait-connect=0": "twice",
		"grpc+http://h?token-file=/x":                 "grpc+https",
		"grpc+http://h?%zz":                           "parameters",
	} {
		if got, err := grpcstore.ParseAddress(address); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want %q", address, got, err, want)
		}
	}
	// wait-connect=1 fails at once; without it the first call fails.
	if _, err := grpcstore.Dial(context.Background(), "grpc+unix:///missing?wait-connect=1", grpcstore.Options{}); err == nil || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("wait-connect=1: %v", err)
	}
	c := dial(t, "grpc+unix:///missing", grpcstore.Options{})
	if _, err := c.Blobs().Has(t.Context(), [32]byte{1}); err == nil || !strings.Contains(err.Error(), "/missing") || !strings.Contains(err.Error(), "is it running") {
		t.Errorf("no server: %v", err)
	}
	if _, err := grpcstore.Dial(context.Background(), "grpc+unix:///s?token-file=/missing", grpcstore.Options{}); err == nil || !strings.Contains(err.Error(), "/missing") {
		t.Errorf("no token: %v", err)
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"grpc+unix:///p?wait-connect=1", "grpc+http://[::1]:1", "grpc+https://h?ca-file=x", "grpc+http:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if server, err := grpcstore.ParseAddress(s); err == nil && !strings.HasPrefix(server, "grpc+") {
			t.Errorf("%q is the server %q", s, server)
		}
	})
}
