package storeaddr

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
)

// nested is an address with n others within each other.
func nested(n int) string {
	s := "memory:"
	for range n {
		s = "cache:?far=memory:&near=" + url.QueryEscape(s)
	}
	return s
}

func TestParse(t *testing.T) {
	memory := address{scheme: "memory"}
	file := func(path string) address { return address{scheme: "file", path: path} }
	grpc := func(s string) address { return address{scheme: "grpc", whole: s} }
	bucket := func(s string) address { return address{scheme: "objectstore", whole: s} }
	const signing = "keyfile-signing:?inner=memory:&keyfile="
	for _, tt := range []struct {
		kind kind
		in   string
		want address
		err  string
	}{
		{blobs, "memory:", memory, ""},
		{pathInfos, "memory://", memory, ""},
		{blobs, "file:///var/lib/x", file("/var/lib/x"), ""},
		{blobs, "file:/var/lib/x", file("/var/lib/x"), ""},
		{blobs, "file:///a//b/../c/", file("/a/c"), ""},
		{blobs, "file:///a%20b%3Fc%23d%25", file("/a b?c#d%"), ""},
		{blobs, "FILE:///x", file("/x"), ""},
		{directories, "sqlite:///x.sqlite", address{scheme: "sqlite", path: "/x.sqlite"}, ""},
		{blobs, "sled:///x.sled", address{scheme: "file", path: "/x.sled", foreign: true}, ""},
		{directories, "sled:///x.sled", address{scheme: "sqlite", path: "/x.sled", foreign: true}, ""},
		{pathInfos, "redb:///x.redb", address{scheme: "sqlite", path: "/x.redb", foreign: true}, ""},
		{pathInfos, "redb://", memory, ""},
		{directories, "redb:", memory, ""},
		{blobs, "grpc+unix:///p?wait-connect=0", grpc("grpc+unix:///p?wait-connect=0"), ""},
		{directories, "grpc+http://[::1]:12345", grpc("grpc+http://[::1]:12345"), ""},
		{pathInfos, "grpc+https://localhost", grpc("grpc+https://localhost"), ""},
		{blobs, "objectstore+file:///foo/bar?avg_chunk_size=65536", bucket("objectstore+file:///foo/bar?avg_chunk_size=65536"), ""},
		{directories, "objectstore+memory:///", bucket("objectstore+memory:///"), ""},
		{blobs, "objectstore+s3://bucket/path", bucket("objectstore+s3://bucket/path"), ""},
		{blobs, "objectstore+s3a://bucket/path", bucket("objectstore+s3a://bucket/path"), ""},
		{blobs, "objectstore+https://localhost:8080/some-path", bucket("objectstore+https://localhost:8080/some-path"), ""},
		{directories, "bigtable://i?project_id=p", address{scheme: "bigtable", whole: "bigtable://i?project_id=p"}, ""},
		{blobs, "cache:?near=file:///a&far=grpc%2bunix:///p", address{scheme: "cache", near: "file:///a", far: "grpc+unix:///p"}, ""},
		{blobs, "cache:?near=objectstore+memory:///&far=grpc+unix:///p", address{scheme: "cache", near: "objectstore+memory:///", far: "grpc+unix:///p"}, ""},
		{blobs, "combined://?near=memory:&far=memory:", address{scheme: "cache", near: "memory:", far: "memory:"}, ""},
		{pathInfos, "cache:?near=lru:%3Fcapacity=9&far=memory:", address{scheme: "cache", near: "lru:?capacity=9", far: "memory:"}, ""},
		{pathInfos, "lru:?capacity=1000", address{scheme: "lru", capacity: 1000}, ""},
		{pathInfos, signing + "/a/../k", address{scheme: "keyfile-signing", inner: "memory:", keyFile: "/k"}, ""},

		{blobs, nested(1), address{scheme: "cache", near: "memory:", far: "memory:"}, ""},
		{blobs, nested(maxNesting), address{scheme: "cache", near: nested(maxNesting - 1), far: "memory:"}, ""},

		{blobs, "", address{}, `unknown scheme "" (there is: memory:, file:///DIR, objectstore+file:///DIR`},
		{blobs, "/var/lib/x", address{}, "unknown scheme"},
		{blobs, "ftp://x", address{}, `unknown scheme "ftp"`},
		{blobs, "http://foo.example/test", address{}, "unknown scheme"},
		{blobs, "sqlite:///x", address{}, `unknown scheme "sqlite"`},
		{blobs, "redb:///x", address{}, `unknown scheme "redb"`},
		{blobs, "bigtable://i", address{}, `unknown scheme "bigtable"`},
		{directories, "lru:?capacity=1", address{}, `unknown scheme "lru"`},
		{directories, "combined:?near=memory:&far=memory:", address{}, `unknown scheme "combined"`},
		{pathInfos, "objectstore+memory:///", address{}, `unknown scheme "objectstore+memory"`},
		{directories, "file:///x", address{}, "sqlite:///FILE"},
		{blobs, "memory://foo", address{}, "host"},
		{blobs, "memory:///", address{}, "no path"},
		{blobs, "memory:///foo", address{}, "no path"},
		{blobs, "memory:foo", address{}, "not absolute"},
		{blobs, "memory:?x=1", address{}, `unknown parameter "x"`},
		{blobs, "file://host/x", address{}, "host"},
		{blobs, "file://user@/x", address{}, "host"},
		{blobs, "file:x", address{}, "not absolute"},
		{blobs, "file://", address{}, "path is missing"},
		{blobs, "file:", address{}, "path is missing"},
		{blobs, "file:///", address{}, "root directory"},
		{blobs, "file:///x/..", address{}, "root directory"},
		{blobs, "file:///x?mode=ro", address{}, `unknown parameter "mode"`},
		{blobs, "file:///x?a=%zz", address{}, "parameters"},
		{blobs, "file:///x#y", address{}, "%23"},
		{blobs, "file:///x#", address{}, "%23"},
		{blobs, "file:///x%00", address{}, "NUL"},
		{blobs, "file:///x%zz", address{}, "invalid URL escape"},
		{directories, "redb:///", address{}, "root directory"},
		{directories, "redb://foo.example/x", address{}, "host"},
		{pathInfos, "redb://foo.example", address{}, "host"},
		{blobs, "objectstore+ftp://x", address{}, `unknown scheme "ftp"`},
		{blobs, "objectstore+s3://b/p?aws_secret=hush", address{}, `unknown parameter "aws_secret"`},
		{directories, "objectstore+file:///d?avg_chunk_size=65536", address{}, "avg_chunk_size"},
		{blobs, "cache:?near=memory:", address{}, `"far" is missing`},
		{blobs, "cache:?near=memory:&far=", address{}, `"far" is missing`},
		{blobs, "cache:?near=memory:&near=memory:&far=memory:", address{}, "twice"},
		{blobs, "cache:?near=memory:&far=memory:&x=1", address{}, "%26"},
		{blobs, "cache:?near=disk&far=memory:", address{}, `unknown scheme "disk"`},
		{blobs, "cache:?near=ftp://x&far=memory:", address{}, `unknown scheme "ftp"`},
		{blobs, "cache:?near=objectstore%2bs3://k:hush@b&far=memory:", address{}, "user"},
		{blobs, nested(20), address{}, "within each other"},
		{pathInfos, "lru:", address{}, `"capacity" is missing`},
		{pathInfos, "lru:?capacity=0", address{}, "from 1"},
		{pathInfos, "lru:?capacity=9999999999", address{}, "from 1"},
		{pathInfos, signing + "k", address{}, "not an absolute path"},
		{pathInfos, "keyfile-signing:?keyfile=/k", address{}, `"inner" is missing`},
		{blobs, "file:///" + strings.Repeat("x", maxAddress), address{}, "longer than"},
	} {
		got, err := parse(tt.kind, tt.in)
		if tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: %+v, %v, want %+v", tt.in, got, err, tt.want)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), string(tt.kind))) {
			t.Errorf("%q: %+v, error %v, want %q", tt.in, got, err, tt.err)
		}
		if err != nil && (strings.Contains(err.Error(), "hush") || len(err.Error()) > 4000) {
			t.Errorf("%q: the error shows too much: %v", tt.in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	all := []kind{blobs, directories, pathInfos}
	for _, s := range []string{
		"memory:", "memory://", "file:///var/lib/x", "file:///a%20b", "sqlite:///x.sqlite", "sled:///x", "redb:", "redb:///x",
		"objectstore+s3://b/p?aws_region=r", "grpc+unix:///p?wait-connect=1", "bigtable://i?project_id=p",
		"cache:?near=memory:&far=cache:%3Fnear=memory:%26far=memory:", "lru:?capacity=7", "keyfile-signing:?inner=lru:%3fcapacity=1&keyfile=/k",
	} {
		reached := false
		for _, k := range all {
			_, err := parse(k, s)
			reached = reached || err == nil
		}
		if !reached {
			f.Fatalf("the seed %q does not reach the end of the parser", s)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range all {
			a, err := parse(k, s)
			if err != nil {
				continue
			}
			for _, ref := range []string{a.near, a.far, a.inner} {
				if ref == "" {
					continue
				}
				if _, err := parse(k, ref); err != nil {
					t.Fatalf("%q holds a bad address: %v", s, err)
				}
			}
			if files := a.scheme == "file" || a.scheme == "sqlite"; files == (a.path == "") || a.path != "" && a.path != filepath.Clean(a.path) {
				t.Fatalf("%q gives %+v", s, a)
			}
			if a.path == "" {
				continue
			}
			a.foreign = false
			if again, err := parse(k, fileAddress(a.scheme, a.path)); err != nil || again != a {
				t.Fatalf("%q gives %+v, and that %+v, %v", s, a, again, err)
			}
		}
	})
}
