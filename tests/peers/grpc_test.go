//go:build peers

package peers

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/pathinfo"
)

// pathInfos are all that a daemon has, by path.
func pathInfos(t *testing.T, address string) map[storepath.StorePath]*pathinfo.PathInfo {
	t.Helper()
	conn, err := grpcstore.Dial(t.Context(), address, grpcstore.Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all := map[storepath.StorePath]*pathinfo.PathInfo{}
	for info, err := range conn.PathInfos().List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		all[info.StorePath] = info
	}
	return all
}

// checkExport holds that a store renders the same NAR of a path as Nix does of
// the tree.
func checkExport(t *testing.T, env []string, path, tree string) {
	t.Helper()
	if _, err := exec.LookPath("nix-store"); err != nil {
		t.Skip("SKIP: nix-store is not in $PATH (apt-get install nix-bin)")
	}
	want := sha256.Sum256([]byte(run(t, nil, "", "nix-store", "--dump", tree)))
	if got := sha256.Sum256([]byte(run(t, env, "", ours(t, "virtiofsd"), "export", path))); got != want {
		t.Errorf("the NAR of %s has the hash %x, want %x", path, got, want)
	}
}

// TestSameStore imports and copies the same with four pairs of programs: their
// client and ours, their daemon and ours. All four stores must agree in every
// path info, and hold what Nix has.
func TestSameStore(t *testing.T) {
	forEachPeer(t, func(t *testing.T, peer string) {
		tree, closure := sampleTree(t, "tree"), hello(t)
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte("a file at the top"), 0o755); err != nil {
			t.Fatal(err)
		}
		attrs := closureJSON(t, closure)
		var first map[storepath.StorePath]*pathinfo.PathInfo
		for _, tt := range []struct{ name, client, daemon string }{
			{"ours alone", ours(t, "virtiofsd"), ours(t, "virtiofsd")},
			{"their client, our daemon", peer, ours(t, "virtiofsd")},
			{"our client, their daemon", ours(t, "virtiofsd"), peer},
			{"theirs alone", peer, peer},
		} {
			t.Run(tt.name, func(t *testing.T) {
				address, _ := daemon(t, one("memory://"), tt.daemon)
				env := one(address)
				var imported []string
				if tt.client == peer {
					imported = paths(run(t, env, "", peer, "--otlp=false", "import", tree, file))
					run(t, env, attrs, peer, "--otlp=false", "copy", "-")
				} else {
					imported = paths(run(t, env, "", tt.client, "import", tree, file))
					// Ours under their name takes their command lines.
					link := filepath.Join(t.TempDir(), filepath.Base(peer))
					if err := os.Symlink(tt.client, link); err != nil {
						t.Fatal(err)
					}
					run(t, env, attrs, link, "--otlp=false", "copy", "-")
				}
				infos := pathInfos(t, address)
				if len(imported) != 2 || len(infos) != 4 {
					t.Fatalf("import prints %q, the store lists %d paths", imported, len(infos))
				}
				for _, path := range imported {
					if strings.HasSuffix(path, "-tree") {
						checkExport(t, env, path, tree)
					} else {
						checkExport(t, env, path, file)
					}
				}
				checkExport(t, env, closure, closure)
				for p, info := range infos {
					// Their copy keeps what the format leaves out (spec/store.md 1.2).
					if info.Deriver != nil {
						info.Deriver.Name = strings.TrimSuffix(info.Deriver.Name, ".drv")
					}
					slices.SortFunc(info.References, func(a, b storepath.StorePath) int { return strings.Compare(a.String(), b.String()) })
					if first != nil && !reflect.DeepEqual(info, first[p]) {
						t.Errorf("%s differs:\n%s\nours has\n%s", p, text(t, info), text(t, first[p]))
					}
				}
				if first == nil {
					first = infos
				}
			})
		}
	})
}

// TestCopyBetween moves everything from their daemon to ours and back to another
// of theirs.
func TestCopyBetween(t *testing.T) {
	forEachPeer(t, func(t *testing.T, peer string) {
		tree := sampleTree(t, "tree")
		a, _ := daemon(t, one("memory://"), peer)
		b, _ := daemon(t, one("memory://"), ours(t, "virtiofsd"))
		c, _ := daemon(t, one("memory://"), peer)
		path := strings.TrimSpace(run(t, one(a), "", peer, "--otlp=false", "import", tree))
		for _, pair := range [][2]string{{a, b}, {b, c}} {
			run(t, one(pair[0]), "", ours(t, "virtiofsd"), "copy", "--all",
				"--to-blob-service-addr", pair[1], "--to-directory-service-addr", pair[1], "--to-path-info-service-addr", pair[1])
		}
		checkExport(t, one(c), path, tree)
		if got, want := pathInfos(t, c), pathInfos(t, a); !reflect.DeepEqual(got, want) {
			t.Errorf("path infos %v, want %v", got, want)
		}
	})
}

// text is a path info with what its pointers point to.
func text(t *testing.T, info *pathinfo.PathInfo) string {
	t.Helper()
	b, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
