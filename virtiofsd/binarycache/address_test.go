package binarycache

import (
	"strings"
	"testing"
	"time"
)

const testKey = "test-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

func TestParseAddress(t *testing.T) {
	for _, tt := range []struct {
		in, place string
		check     func(Address) bool
	}{
		{"https://cache.nixos.org", "https://cache.nixos.org", func(a Address) bool { return len(a.Keys) == 1 && a.CheckTrust() == nil && a.Path == "/" }},
		{"nix+https://cache.nixos.org/sub?trusted-public-keys=", "https://cache.nixos.org/sub", func(a Address) bool { return a.Path == "/sub/" && a.CheckTrust() != nil }},
		{"http://h:9000/a/?trusted-public-keys=" + testKey, "http://h:9000/a", func(a Address) bool { return a.Host == "h:9000" && a.Keys[0].Name() == "test-1" }},
		{"http://h?trusted-public-keys=" + testKey + "%20" + strings.Replace(testKey, "test-1", "b", 1), "http://h", func(a Address) bool { return len(a.Keys) == 2 }},
		{"http://h?trusted-public-keys=" + testKey + "+" + strings.Replace(testKey, "test-1", "b", 1), "http://h", func(a Address) bool { return len(a.Keys) == 2 }},
		{"http://h?allow-unsigned=1&priority=7&timeout=500ms&stall-timeout=3&retries=0", "http://h", func(a Address) bool {
			return a.CheckTrust() == nil && *a.Priority == 7 && a.Timeout == 500*time.Millisecond && a.Stall == 3*time.Second && a.Retries == 0
		}},
		{"file:///srv/../srv/cache?compression=xz", "file:///srv/cache", func(a Address) bool { return a.Compression == "xz" }},
		{"s3://bucket/a/b?region=eu-1&endpoint=minio.local", "s3://bucket/a/b", func(a Address) bool { return a.endpoint == "https://minio.local" && a.Path == "a/b/" }},
		{"http://h?castore=grpc+http://h:8000&castore-lazy=1", "http://h", func(a Address) bool { return a.Castore == "grpc+http://h:8000" && a.CastoreLazy }},
	} {
		a, err := ParseAddress(tt.in)
		if err != nil || a.String() != tt.place || !tt.check(a) {
			t.Errorf("%s: %+v, %v", tt.in, a, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"ftp://h":                              `unknown scheme "ftp"`,
		"http://user:secret@h":                 "netrc",
		"http:///x":                            "no host",
		"http:x":                               "http://...",
		"file://host/x":                        "file:///DIR",
		"file:///":                             "file:///DIR",
		"s3:///x":                              "no bucket",
		"http://h#x":                           "%23",
		"http://h?nope=1":                      `unknown parameter "nope"`,
		"http://h?priority=1&priority=2":       "twice",
		"http://h?priority=-1":                 "number",
		"http://h?timeout=0":                   "time from 1ms",
		"http://h?retries=21":                  "0 to 20",
		"http://h?allow-unsigned=maybe":        "neither",
		"http://h?trusted-public-keys=x":       "NAME:BASE64",
		"http://h?token-file=relative":         "absolute",
		"file:///x?token-file=/t":              "unknown parameter",
		"http://h?compression=rar":             "rar",
		"http://h?castore=http://h":            "grpc+http",
		"http://h?castore-lazy=1":              "castore=ADDRESS",
		"http://h?a=%zz":                       "NAME=VALUE",
		"s3://b?endpoint=ftp://x":              "HOST",
		"http://" + strings.Repeat("a", 70000): "longer",
	} {
		if _, err := ParseAddress(in); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%.60s: %v, want %q", in, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{
		"https://cache.nixos.org", "file:///srv/cache?compression=xz", "s3://bucket/a?region=r&endpoint=h&profile=p",
		"nix+http://h:1/x/?trusted-public-keys=" + testKey + "&allow-unsigned=1&priority=7&timeout=500ms&stall-timeout=3&retries=0&token-file=/t&netrc-file=/n&castore=grpc+http://h:8000&castore-lazy=1",
	} {
		if _, err := ParseAddress(s); err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if a.Timeout <= 0 || a.Stall <= 0 || a.Retries < 0 {
			t.Errorf("%q: limits %v %v %d", s, a.Timeout, a.Stall, a.Retries)
		}
		if a.Scheme == "file" && !strings.HasPrefix(a.Path, "/") || strings.Contains(a.Path, "..") && strings.Contains("/"+a.Path+"/", "/../") {
			t.Errorf("%q: path %q", s, a.Path)
		}
	})
}

func FuzzParseInfo(f *testing.F) {
	f.Add("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n")
	f.Fuzz(func(t *testing.T, s string) {
		if info, err := parseInfo(s); err == nil && info.Priority < 0 {
			t.Errorf("%q: priority %d", s, info.Priority)
		}
	})
}

func TestParseInfo(t *testing.T) {
	for in, want := range map[string]string{
		"StoreDir: /gnu/store\n": "/gnu/store",
		"Priority: x\n":          "priority",
		"<html>\n":               "KEY: VALUE",
	} {
		if _, err := parseInfo(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if info, err := parseInfo("StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 41\nX: y\n"); err != nil || info != (Info{41, true}) {
		t.Errorf("%v, %v", info, err)
	}
}

func TestParseNetrc(t *testing.T) {
	const text = "machine a login x password y\nmachine b\n login u\n password p\ndefault login d password e\n"
	for host, want := range map[string]credentials{
		"a": {user: "x", password: "y"}, "b": {user: "u", password: "p"}, "c": {user: "d", password: "e"},
	} {
		if c := parseNetrc(text, host); c == nil || *c != want {
			t.Errorf("%s: %+v", host, c)
		}
	}
	if c := parseNetrc("machine a login x password y", "c"); c != nil {
		t.Errorf("another host: %+v", c)
	}
}
