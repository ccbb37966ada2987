package storeaddr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		kind kind
		in   string
		want address
		err  string
	}{
		{blobs, "memory:", address{"memory", ""}, ""},
		{pathInfos, "memory://", address{"memory", ""}, ""},
		{blobs, "file:///var/lib/x", address{"file", "/var/lib/x"}, ""},
		{blobs, "file:/var/lib/x", address{"file", "/var/lib/x"}, ""},
		{blobs, "file:///a//b/../c/", address{"file", "/a/c"}, ""},
		{blobs, "file:///a%20b%3Fc%23d%25", address{"file", "/a b?c#d%"}, ""},
		{blobs, "FILE:///x", address{"file", "/x"}, ""},
		{directories, "sqlite:///x.sqlite", address{"sqlite", "/x.sqlite"}, ""},

		{blobs, "", address{}, `unknown scheme "" (there is: memory:, file:///DIR)`},
		{blobs, "/var/lib/x", address{}, "unknown scheme"},
		{blobs, "ftp://x", address{}, `unknown scheme "ftp"`},
		{blobs, "http://foo.example/test", address{}, "unknown scheme"},
		{blobs, "sqlite:///x", address{}, `unknown scheme "sqlite"`},
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
		{pathInfos, "redb:///x", address{}, "unknown scheme"},
	} {
		got, err := parse(tt.kind, tt.in)
		if tt.err == "" && (err != nil || got != tt.want) {
			t.Errorf("%q: %v, %v, want %v", tt.in, got, err, tt.want)
		}
		if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), string(tt.kind))) {
			t.Errorf("%q: %v, error %v, want %q", tt.in, got, err, tt.err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"memory:", "memory://", "file:///var/lib/x", "file:///a%20b", "sqlite:///x.sqlite"} {
		_, err1 := parse(blobs, s)
		_, err2 := parse(directories, s)
		if err1 != nil && err2 != nil {
			f.Fatalf("the seed %q does not reach the end of the parser: %v", s, err1)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range []kind{blobs, directories, pathInfos} {
			a, err := parse(k, s)
			if err != nil {
				continue
			}
			if a.scheme == "memory" != (a.path == "") || a.path != "" && a.path != filepath.Clean(a.path) {
				t.Fatalf("%q gives %+v", s, a)
			}
			if a.path == "" {
				continue
			}
			if again, err := parse(k, fileAddress(a.scheme, a.path)); err != nil || again != a {
				t.Fatalf("%q gives %+v, and that %+v, %v", s, a, again, err)
			}
		}
	})
}

func TestFlags(t *testing.T) {
	for _, name := range []string{"STOREBOOT_STORE", "BLOB_SERVICE_ADDR", "DIRECTORY_SERVICE_ADDR", "PATH_INFO_SERVICE_ADDR"} {
		t.Setenv(name, "")
	}
	for _, tt := range []struct {
		name string
		env  map[string]string
		args []string
		want Addresses
	}{
		{"nothing", nil, nil, Addresses{Dir: DefaultDir()}},
		{"environment", map[string]string{"STOREBOOT_STORE": "/s", "BLOB_SERVICE_ADDR": "b:", "DIRECTORY_SERVICE_ADDR": "d:", "PATH_INFO_SERVICE_ADDR": "p:"}, nil,
			Addresses{"/s", "b:", "d:", "p:"}},
		{"flags", nil, []string{"--store=/s", "--blob-service-addr=b:", "--directory-service-addr=d:", "--path-info-service-addr=p:"},
			Addresses{"/s", "b:", "d:", "p:"}},
		{"flag before environment", map[string]string{"STOREBOOT_STORE": "/env"}, []string{"--store=/flag"}, Addresses{Dir: "/flag"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			var a Addresses
			f := pflag.NewFlagSet("test", pflag.ContinueOnError)
			a.AddFlags(f)
			if err := f.Parse(tt.args); err != nil || a != tt.want {
				t.Errorf("%+v, %v, want %+v", a, err, tt.want)
			}
		})
	}
}

func TestDefaultDir(t *testing.T) {
	if os.Geteuid() == 0 {
		if DefaultDir() != "/var/lib/storeboot" {
			t.Errorf("root: %s", DefaultDir())
		}
		return
	}
	t.Setenv("HOME", "/home/u")
	for data, want := range map[string]string{"": "/home/u/.local/share/storeboot", "/data": "/data/storeboot", "relative": "/home/u/.local/share/storeboot"} {
		t.Setenv("XDG_DATA_HOME", data)
		if got := DefaultDir(); got != want {
			t.Errorf("XDG_DATA_HOME=%s: %s", data, got)
		}
	}
}

// fill stores one of each.
func fill(t *testing.T, s *Store) {
	t.Helper()
	castoretest.PutBlob(t, s.Blobs, []byte("x"))
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "x", Node: castore.Node{Kind: castore.KindFile}})
	_, err1 := castoretest.PutDirectories(s.Directories, dir)
	_, err2 := s.PathInfos.Put(context.Background(), pathinfotest.Bare("x"))
	if err := errors.Join(s.Blobs.Flush(context.Background()), err1, err2); err != nil {
		t.Fatal(err)
	}
}

func TestOpen(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?#%/store")
	for _, tt := range []struct {
		name  string
		a     Addresses
		files []string
	}{
		{"embedded", Addresses{Dir: dir}, []string{dir + "/blobs", dir + "/store.sqlite"}},
		{"memory", Addresses{"/nowhere", "memory:", "memory:", "memory:"}, nil},
		{"apart", Addresses{Dir: dir + "2", Directories: fileAddress("sqlite", dir+"3/d.sqlite")}, []string{dir + "2/blobs", dir + "2/store.sqlite", dir + "3/d.sqlite"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(context.Background(), tt.a)
			if err != nil {
				t.Fatal(err)
			}
			fill(t, s)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			for _, f := range tt.files {
				if _, err := os.Stat(f); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		a    Addresses
		err  string
	}{
		{"scheme", Addresses{Dir: dir, Blobs: "ftp://x"}, "ftp"},
		{"root", Addresses{Dir: "/"}, "root directory"},
		{"store is a file", Addresses{Dir: file}, file},
		{"blobs are a file", Addresses{Dir: dir, Blobs: "file://" + file}, "not a directory"},
		{"database is another's", Addresses{Dir: dir, PathInfos: "sqlite://" + file}, "not a storeboot database"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(context.Background(), tt.a)
			if err == nil {
				s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}
