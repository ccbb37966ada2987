package storeaddr

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func TestFlags(t *testing.T) {
	for _, name := range []string{compositionEnv, "STOREBOOT_STORE", "BLOB_SERVICE_ADDR", "DIRECTORY_SERVICE_ADDR", "PATH_INFO_SERVICE_ADDR"} {
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
			Addresses{Dir: "/s", Blobs: "b:", Directories: "d:", PathInfos: "p:"}},
		{"composition", map[string]string{compositionEnv: "/env"}, []string{"--store=/s"}, Addresses{Dir: "/s", Composition: "/env"}},
		{"composition by flag", map[string]string{compositionEnv: "/env"}, []string{"--store=/s", "--composition=/flag"}, Addresses{Dir: "/s", Composition: "/flag"}},
		{"composition by the flag of snix", nil, []string{"--store=/s", "--experimental-store-composition=/flag"}, Addresses{Dir: "/s", Composition: "/flag"}},
		{"flags", nil, []string{"--store=/s", "--blob-service-addr=b:", "--directory-service-addr=d:", "--path-info-service-addr=p:"},
			Addresses{Dir: "/s", Blobs: "b:", Directories: "d:", PathInfos: "p:"}},
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

func TestServiceFlags(t *testing.T) {
	for _, name := range []string{compositionEnv, "BLOB_SERVICE_ADDR", "DIRECTORY_SERVICE_ADDR", "PATH_INFO_SERVICE_ADDR"} {
		t.Setenv(name, "")
	}
	t.Setenv("BLOB_SERVICE_ADDR", "objectstore+s3://b?aws_secret_access_key=hush")
	var a Addresses
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	a.AddServiceFlags(f, Addresses{Blobs: "b:", Directories: "d:", PathInfos: "p:"})
	if err := f.Parse([]string{"--path-info-service-addr=q:"}); err != nil {
		t.Fatal(err)
	}
	if want := (Addresses{Blobs: os.Getenv("BLOB_SERVICE_ADDR"), Directories: "d:", PathInfos: "q:"}); a != want {
		t.Errorf("%+v, want %+v", a, want)
	}
	if help := f.FlagUsages(); strings.Contains(help, "hush") || !strings.Contains(help, "s3://b") || strings.Contains(help, "--store ") {
		t.Errorf("help: %s", help)
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
		{"memory", Addresses{Dir: "/nowhere", Blobs: "memory:", Directories: "memory:", PathInfos: "memory:"}, nil},
		{"sled and redb", Addresses{Dir: "/nowhere", Blobs: fileAddress("sled", dir+"4/b.sled"), Directories: fileAddress("sled", dir+"4/d.sled"), PathInfos: fileAddress("redb", dir+"4/p.redb")},
			[]string{dir + "4/b.sled", dir + "4/d.sled", dir + "4/p.redb"}},
		{"object store", Addresses{Dir: dir + "5", Blobs: fileAddress("objectstore+file", dir+"5/objects"), Directories: fileAddress("objectstore+file", dir+"5/objects")},
			[]string{dir + "5/objects/chunks", dir + "5/objects/dirs", dir + "5/store.sqlite"}},
		{"cache", Addresses{Dir: dir + "6", Blobs: "cache:?near=" + url.QueryEscape(fileAddress("file", dir+"6/near")) + "&far=memory:", Directories: "cache:?near=memory:&far=memory:", PathInfos: "cache:?near=lru:%3Fcapacity=10&far=memory:"},
			[]string{dir + "6/near"}},
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
	redb, sled := dir+"/redb", dir+"/sled"
	err := errors.Join(os.WriteFile(redb, []byte(redbMagic+"more"), 0o644), os.Mkdir(sled, 0o755),
		os.WriteFile(sled+"/conf", nil, 0o644), os.WriteFile(sled+"/db", nil, 0o644))
	if err != nil {
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
		{"database is redb", Addresses{Dir: dir, PathInfos: "redb://" + redb}, redb + " is a redb database"},
		{"database is sled", Addresses{Dir: dir, Directories: "sled://" + sled}, sled + " is a sled database"},
		{"blobs are sled", Addresses{Dir: dir, Blobs: "sled://" + sled}, "grpc+http://[::1]:8000"},
		{"bad gRPC address", Addresses{Dir: dir, Blobs: "grpc+http://localhost/some-path"}, "blob service"},
		{"server that is not there", Addresses{Dir: dir, Blobs: "grpc+unix:///missing?wait-connect=1"}, "/missing"},
		{"bad Bigtable address", Addresses{Dir: dir, PathInfos: "bigtable://i?project_id=p"}, "table_name"},
		{"no key", Addresses{Dir: dir, PathInfos: "keyfile-signing:?inner=memory:&keyfile=/none/key"}, "/none/key"},
		{"no composition", Addresses{Dir: dir, Composition: dir + "/none"}, dir + "/none"},
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
