package bucket

import (
	"strings"
	"testing"
	"time"
)

func TestParseAddress(t *testing.T) {
	for raw, want := range map[string]string{ // the address without parameters
		"objectstore+file:///foo/bar":                                  "file:///foo/bar",
		"file:///foo/bar/":                                             "file:///foo/bar",
		"objectstore+memory:///":                                       "memory:",
		"objectstore+memory://":                                        "memory:",
		"objectstore+https://localhost:8080/some-path":                 "https://localhost:8080/some-path",
		"objectstore+http://localhost:8080/some-path?allow_http=true":  "http://localhost:8080/some-path",
		"objectstore+s3://bucket/path":                                 "s3://bucket/path",
		"objectstore+s3a://bucket":                                     "s3://bucket",
		"objectstore+s3://bucket/a/b/?AWS_Region=eu":                   "s3://bucket/a/b",
		"objectstore+gs://bucket/path?google_skip_signature=1":         "gs://bucket/path",
		"objectstore+az://container/path?azure_storage_account_name=a": "az://container/path",
		"objectstore+abfss://container@account.dfs.core.windows.net/p": "az://container/p",
		"objectstore+s3://bucket/?bucket=bucket&timeout=7&token=t":     "s3://bucket",
	} {
		a, err := ParseAddress(raw)
		if err != nil {
			t.Errorf("%s: %v", raw, err)
		} else if got := strings.TrimSuffix(a.String(), "//"); got != want {
			t.Errorf("%s is %s, want %s", raw, got, want)
		}
	}
	for raw, want := range map[string]string{
		"http://foo.example/test":                                        "allow_http",
		"ftp://foo.example/test":                                         `"ftp"`,
		"objectstore+sled:///x":                                          `"sled"`,
		"objectstore+file://host/x":                                      "three slashes",
		"objectstore+file:///":                                           "no directory",
		"objectstore+file:relative":                                      "form",
		"objectstore+file:///a/../b":                                     `".."`,
		"objectstore+file:///a//b":                                       "empty",
		"objectstore+memory://foo":                                       "memory:///",
		"objectstore+s3:///path":                                         "no bucket",
		"objectstore+s3://b?aws_regoin=x":                                `unknown parameter "aws_regoin"`,
		"objectstore+s3://b?region=x&region=y":                           "2 times",
		"objectstore+s3://b?region=x&aws_region=y":                       "twice",
		"objectstore+s3://b?bucket=c":                                    `"c"`,
		"objectstore+s3://b?endpoint=http://h":                           "allow_http",
		"objectstore+s3://b?endpoint=localhost:9000&allow_http=1":        "http://HOST",
		"objectstore+s3://b?allow_http=maybe":                            "neither",
		"objectstore+s3://b?timeout=0":                                   "duration",
		"objectstore+s3://b?timeout=99999h":                              "duration",
		"objectstore+s3://b?pool_max_idle_per_host=-1":                   "number",
		"objectstore+s3://b?aws_server_side_encryption=sse-c":            "one of",
		"objectstore+s3://b?google_service_account=x":                    "no meaning for s3",
		"objectstore+file:///d?aws_region=x":                             "no meaning for file",
		"objectstore+file:///d?x=y":                                      "takes none",
		"objectstore+s3://user:secret@b/p":                               "user",
		"objectstore+https://bucket.s3.amazonaws.com/x":                  "objectstore+s3://",
		"objectstore+s3://b?%zz":                                         "parameters",
		"objectstore+s3://b#x":                                           "form",
		"objectstore+s3://b\x7f?aws_secret_access_key=topsecret":         "control character",
		"objectstore+s3://b?aws_secret_access_key=topsecret&region=%00%": "parameters",
	} {
		a, err := ParseAddress(raw)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, error %v, want %q", raw, a, err, want)
		} else if strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: the error tells a secret: %v", raw, err)
		}
	}
}

func TestParameters(t *testing.T) {
	a, err := ParseAddress("objectstore+s3://b/p?aws_access_key_id=k&aws_secret_access_key=s&aws_endpoint_url=http%3A%2F%2Flocalhost%3A9000&aws_allow_http=1&timeout=5m&own=7", "own")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"access_key_id": "k", "secret_access_key": "s", "endpoint": "http://localhost:9000", "allow_http": "1"} {
		if a.params[name] != want {
			t.Errorf("parameter %s is %q, want %q", name, a.params[name], want)
		}
	}
	if a.timeout != 5*time.Minute || a.Extra["own"] != "7" {
		t.Errorf("timeout %v, extra %v", a.timeout, a.Extra)
	}
	if s := a.String(); strings.Contains(s, "?") {
		t.Errorf("%s has parameters", s)
	}
}

// TestParamTable holds that no name stands for two parameters of a kind.
func TestParamTable(t *testing.T) {
	seen := map[Kind]map[string]bool{}
	for _, p := range params {
		for _, kind := range p.kinds {
			if seen[kind] == nil {
				seen[kind] = map[string]bool{}
			}
			for _, name := range p.names {
				if seen[kind][name] || strings.ToLower(name) != name {
					t.Errorf("%s: the name %q is there twice, or not in lower case", kind, name)
				}
				seen[kind][name] = true
			}
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, seed := range []string{
		"objectstore+file:///foo/bar", "objectstore+memory:///", "objectstore+s3://b/p?aws_access_key_id=k&timeout=5m",
		"objectstore+abfss://container@account.dfs.core.windows.net/p", "objectstore+https://localhost:8080/some-path", "az://c?use_emulator=1",
	} {
		if _, err := ParseAddress(seed); err != nil {
			f.Fatalf("seed %s: %v", seed, err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := ParseAddress(raw)
		if err != nil {
			return
		}
		if a.timeout <= 0 || a.Kind == File && !strings.HasPrefix(a.Prefix, "/") || a.Kind != File && strings.HasPrefix(a.Prefix, "/") {
			t.Errorf("%q is taken as %+v", raw, a)
		}
		for _, part := range strings.Split(a.Prefix, "/") {
			if part == ".." {
				t.Errorf("%q leads out of its prefix %q", raw, a.Prefix)
			}
		}
	})
}
