package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

// editStore runs a statement on the store's database, which has to change rows.
func editStore(t testing.TB, store, query string, args ...any) {
	t.Helper()
	pool, err := sql.Open("sqlite", "file:"+store+"/store.sqlite")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if r, err := pool.Exec(query, args...); err != nil {
		t.Fatal(err)
	} else if n, err := r.RowsAffected(); n == 0 || err != nil {
		t.Fatalf("%s changes nothing, %v", query, err)
	}
}

func digestBytes(t testing.TB, s string) []byte {
	t.Helper()
	d, err := castore.ParseDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return d[:]
}

func TestVerifyClean(t *testing.T) {
	newStore(t)
	if got := mustJSON[verifyJSON](t, "verify", "--json"); got.Paths != 0 || len(got.Damaged) != 0 {
		t.Errorf("an empty store: %+v", got)
	}
	path := strings.TrimSpace(must(t, "import", sampleTree(t)))
	must(t, "import", sampleTree(t)+"/large")
	got := mustJSON[verifyJSON](t, "verify", "--json")
	// bin, a, b, none, the root; program, c, empty, large, x, not UTF-8, 8 bytes
	if got.Paths != 2 || got.Directories != 5 || got.Blobs != 7 || len(got.Damaged) != 0 {
		t.Errorf("%+v", got)
	}
	if got.BlobBytes < 3<<20 || got.BlobBytes > 4<<20 {
		t.Errorf("%d bytes", got.BlobBytes)
	}
	if out := must(t, "verify", path); !strings.Contains(out, "damaged: 0") || !strings.Contains(out, "store paths: 1,") {
		t.Errorf("%s", out)
	}
	refused(t, 1, []string{"not in the store"}, "verify", "/nix/store/00000000000000000000000000000000-none")
	refused(t, 2, []string{"/etc"}, "verify", "/etc")
}

// TestVerifyFinds damages a store in one way each: verify says exactly what it
// was and what it touches, --remove removes that, and a second import repairs
// the store.
func TestVerifyFinds(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(t *testing.T, store, path string) (kind, name string)
		others bool // the other path needs it too
	}{
		{"flipped bit in a blob", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/large").Digest
			damageBlob(t, store, d, flip)
			return "blob", d
		}, true},
		{"truncated blob", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/large").Digest
			damageBlob(t, store, d, truncate)
			return "blob", d
		}, true},
		{"longer blob", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a/b/c").Digest
			damageBlob(t, store, d, func(b []byte) []byte { return append(b, 'x') })
			return "blob", d
		}, false},
		{"missing blob", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a/b/c").Digest
			if err := os.Remove(blobFile(t, store, d)); err != nil {
				t.Fatal(err)
			}
			return "blob", d
		}, false},
		{"symlink in the place of a blob", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a/b/c").Digest
			file := blobFile(t, store, d)
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/etc/passwd", file); err != nil {
				t.Fatal(err)
			}
			return "blob", d
		}, false},
		{"directory row", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a/b").Digest
			editStore(t, store, "UPDATE directory SET encoded = encoded || x'00' WHERE digest = ?", digestBytes(t, d))
			return "directory", d
		}, false},
		{"another directory's row", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a/b").Digest
			bin := mustJSON[statJSON](t, "stat", "--json", path+"/bin").Digest
			editStore(t, store, "UPDATE directory SET encoded = (SELECT encoded FROM directory WHERE digest = ?) WHERE digest = ?", digestBytes(t, bin), digestBytes(t, d))
			return "directory", d
		}, false},
		{"missing directory", func(t *testing.T, store, path string) (string, string) {
			d := mustJSON[statJSON](t, "stat", "--json", path+"/a").Digest
			editStore(t, store, "DELETE FROM directory WHERE digest = ?", digestBytes(t, d))
			return "directory", d
		}, false},
		{"path info of no sense", func(t *testing.T, store, path string) (string, string) {
			hash := path[len("/nix/store/") : len("/nix/store/")+32]
			editStore(t, store, "UPDATE path_info SET encoded = x'ff' || encoded WHERE hash = (SELECT hash FROM path_info WHERE instr(encoded, CAST(? AS BLOB)))", path[len("/nix/store/"):])
			return "path info", hash
		}, false},
		{"path info of another NAR", func(t *testing.T, store, path string) (string, string) {
			info := mustStored(t, path)
			info.NarSHA256[3] ^= 4
			putInfo(t, info)
			return "path info", info.StorePath.Hash.String()
		}, false},
		{"path info of another size", func(t *testing.T, store, path string) (string, string) {
			info := mustStored(t, path)
			info.NarSize--
			putInfo(t, info)
			return "path info", info.StorePath.Hash.String()
		}, false},
		{"path info of another mode", func(t *testing.T, store, path string) (string, string) {
			info := mustStored(t, path)
			info.Node = castore.Node{Kind: castore.KindSymlink, Target: "elsewhere"}
			putInfo(t, info)
			return "path info", info.StorePath.Hash.String()
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := newStore(t)
			dir := sampleTree(t)
			path := strings.TrimSpace(must(t, "import", dir))
			other := strings.TrimSpace(must(t, "import", dir+"/large"))
			third := strings.TrimSpace(must(t, "import", dir+"/name with space", "--name", "third"))
			kind, name := tt.damage(t, store, path)
			var want []string
			if kind != "path info" || !strings.Contains(tt.name, "no sense") {
				want = append(want, path)
			}
			if tt.others {
				want = append(want, other)
			}
			slices.Sort(want)
			code, stdout, stderr := virtiofsd("verify")
			if code != 1 || !strings.Contains(stdout, "damaged "+kind+" "+name) || !strings.Contains(stderr, "--remove") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d: %s%s", code, stdout, stderr)
			}
			code, got := verifyJSONOf(t, "verify", "--json")
			if code != 1 || len(got.Damaged) != 1 || got.Damaged[0].Kind != kind || got.Damaged[0].Name != name || got.Damaged[0].Error == "" {
				t.Fatalf("exit %d: %+v, want the %s %s", code, got, kind, name)
			}
			slices.Sort(got.Damaged[0].Paths)
			if !slices.Equal(got.Damaged[0].Paths, want) {
				t.Errorf("it touches %q, want %q", got.Damaged[0].Paths, want)
			}
			if code, _ := verifyJSONOf(t, "verify", "--json", path); code != 1 {
				t.Errorf("verify of %s: exit %d", path, code)
			}
			if code, _ := verifyJSONOf(t, "verify", "--json", third); code != 0 {
				t.Errorf("verify of %s: exit %d", third, code)
			}
			if code, _ := verifyJSONOf(t, "verify", "--remove", "--json"); code != 1 {
				t.Errorf("verify --remove: exit %d", code)
			}
			if left := mustJSON[verifyJSON](t, "verify", "--json"); left.Paths != 3-max(1, len(want)) {
				t.Errorf("%d paths are left", left.Paths)
			}
			must(t, "import", dir, dir+"/large")
			if got := mustJSON[verifyJSON](t, "verify", "--json"); got.Paths != 3 {
				t.Errorf("%+v", got)
			}
			fsck(t)
		})
	}
}

// TestVerifyUnused holds that what no path needs is checked too: the next
// import would take it for good.
func TestVerifyUnused(t *testing.T) {
	store := newStore(t)
	s, err := storeaddr.Open(context.Background(), storeaddr.Addresses{Dir: store})
	if err != nil {
		t.Fatal(err)
	}
	d := castoretest.PutBlob(t, s.Blobs, []byte("nobody's"))
	if err := s.Blobs.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, "verify")
	damageBlob(t, store, d.String(), flip)
	code, got := verifyJSONOf(t, "verify", "--json")
	if code != 1 || len(got.Damaged) != 1 || got.Damaged[0].Name != d.String() || len(got.Damaged[0].Paths) != 0 {
		t.Errorf("exit %d: %+v", code, got)
	}
}

// verifyJSONOf runs a command that may find damage.
func verifyJSONOf(t testing.TB, args ...string) (int, verifyJSON) {
	t.Helper()
	code, stdout, stderr := virtiofsd(args...)
	var v verifyJSON
	if err := json.Unmarshal([]byte(stdout), &v); err != nil {
		t.Fatalf("%q: exit %d: %v: %s%s", args, code, err, stdout, stderr)
	}
	return code, v
}

// withStore opens the test's store.
func withStore(t testing.TB, f func(*storeaddr.Store) error) {
	t.Helper()
	s, err := storeaddr.Open(context.Background(), storeaddr.Addresses{Dir: os.Getenv("STOREBOOT_STORE")})
	if err == nil {
		err = errors.Join(f(s), s.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// mustStored is a copy of what the store knows of a path.
func mustStored(t testing.TB, path string) *pathinfo.PathInfo {
	t.Helper()
	p, _, err := storepath.ParseAbsolute(path)
	if err != nil {
		t.Fatal(err)
	}
	var own pathinfo.PathInfo
	withStore(t, func(s *storeaddr.Store) error {
		info, err := s.PathInfos.Get(context.Background(), p.Hash)
		if err == nil {
			own = *info
		}
		return err
	})
	return &own
}

func putInfo(t testing.TB, info *pathinfo.PathInfo) {
	t.Helper()
	withStore(t, func(s *storeaddr.Store) error {
		_, err := s.PathInfos.Put(context.Background(), info)
		return err
	})
}
