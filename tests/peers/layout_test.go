//go:build peers

package peers

import (
	"bytes"
	"encoding/binary"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/grpcstore"
)

// objects are the files below a directory by relative path, but those that a
// writer has not finished, and what the layout has no place for.
func objects(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	layout := regexp.MustCompile(`^(blobs|chunks|dirs)/b3/[0-9a-f]{4}/[0-9a-f]{64}$`)
	all := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil || !layout.MatchString(name) {
			return err
		}
		all[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestSameObjects stores the same with their daemon and with ours in object
// storage: the same keys (so FastCDC cuts the same), the same indexes of several
// chunks byte for byte, the same contents in chunks and bundles of directories. Then each reads
// what the other has written.
func TestSameObjects(t *testing.T) {
	forEachPeer(t, func(t *testing.T, peer string) {
		tree := sampleTree(t, "tree")
		program := map[string]string{"ours": ours(t, "virtiofsd"), "theirs": peer}
		dir := map[string]string{}
		stored := map[string]map[string][]byte{}
		var path string
		for who, p := range program {
			dir[who] = t.TempDir()
			address, stop := daemon(t, addresses("objectstore+file://"+dir[who], "objectstore+file://"+dir[who], "memory://"), p)
			// Our client: theirs has its daemon compute the NAR hash, which asks for
			// inner directories, which theirs does not find in bundles.
			path = strings.TrimSpace(run(t, one(address), "", ours(t, "virtiofsd"), "import", tree))
			stop()
			stored[who] = objects(t, dir[who])
		}
		compareObjects(t, stored["ours"], stored["theirs"])

		for reader, p := range program {
			for writer, objects := range dir {
				if reader == writer {
					continue
				}
				t.Run(reader+" reads "+writer, func(t *testing.T) {
					address, _ := daemon(t, addresses("objectstore+file://"+objects, "objectstore+file://"+objects, "memory://"), p)
					// The rest comes from another store: path infos, and with them
					// the directories, of which theirs finds the roots alone.
					rest, _ := daemon(t, one("memory://"), ours(t, "virtiofsd"))
					run(t, one(rest), "", ours(t, "virtiofsd"), "import", tree)
					checkExport(t, addresses(address, rest, rest), path, tree)
					for _, info := range pathInfos(t, rest) {
						if got, want := countDirectories(t, address, info.Node.Digest), countDirectories(t, rest, info.Node.Digest); got != want || want < 8 {
							t.Errorf("%d directories, want %d", got, want)
						}
					}
				})
			}
		}
	})
}

func compareObjects(t *testing.T, ours, theirs map[string][]byte) {
	t.Helper()
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	kinds := map[string]int{}
	for name, want := range theirs {
		kind, _, _ := strings.Cut(name, "/")
		kinds[kind]++
		got, ok := ours[name]
		if !ok && kind == "blobs" && len(want) == 0 {
			continue // of a single chunk, which is found without: ours writes none
		}
		if !ok {
			t.Errorf("ours lacks %s", name)
			continue
		}
		if kind != "blobs" { // compressed, by another version of zstd
			if want, err = decoder.DecodeAll(want, nil); err != nil {
				t.Fatalf("theirs: %s: %v", name, err)
			}
			if got, err = decoder.DecodeAll(got, nil); err != nil {
				t.Fatalf("ours: %s: %v", name, err)
			}
		}
		if kind == "dirs" { // any order will do in which parents come first
			got, want = sortedFrames(t, got), sortedFrames(t, want)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s differs: %d bytes, theirs has %d", name, len(got), len(want))
		}
	}
	for name := range ours {
		if _, ok := theirs[name]; !ok {
			t.Errorf("theirs lacks %s", name)
		}
	}
	if kinds["chunks"] < 60 || kinds["blobs"] < 200 || kinds["dirs"] == 0 {
		t.Errorf("theirs has %v objects: the layout has changed", kinds)
	}
	t.Logf("compared %v", kinds)
}

// sortedFrames sorts the directories of a bundle, each behind its length.
func sortedFrames(t *testing.T, bundle []byte) []byte {
	t.Helper()
	var frames [][]byte
	for b := bundle; len(b) > 0; {
		if len(b) < 4 || len(b) < 4+int(binary.BigEndian.Uint32(b)) {
			t.Fatal("a bundle of directories is cut")
		}
		n := 4 + int(binary.BigEndian.Uint32(b))
		frames, b = append(frames, b[:n]), b[n:]
	}
	slices.SortFunc(frames, bytes.Compare)
	return bytes.Join(frames, nil)
}

// countDirectories counts the directories of a tree that a daemon has, by one
// recursive call.
func countDirectories(t *testing.T, address string, root castore.Digest) int {
	t.Helper()
	conn, err := grpcstore.Dial(t.Context(), address, grpcstore.Options{SpoolDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	n := 0
	for _, err := range conn.Directories().Closure(t.Context(), root) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// TestForeignDatabase holds that ours leaves a redb database of theirs alone.
func TestForeignDatabase(t *testing.T) {
	forEachPeer(t, func(t *testing.T, peer string) {
		file := filepath.Join(t.TempDir(), "pathinfo.redb")
		address, stop := daemon(t, addresses("memory://", "memory://", "redb://"+file), peer)
		run(t, one(address), "", peer, "--otlp=false", "import", "doc.go")
		stop()
		before, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		out, err := command(t, addresses("memory:", "memory:", "redb://"+file), ours(t, "virtiofsd"), "list").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "redb") || strings.Count(string(out), "\n") != 1 {
			t.Errorf("%v: %s", err, out)
		}
		if after, err := os.ReadFile(file); err != nil || !slices.Equal(after, before) {
			t.Errorf("the database has changed: %v", err)
		}
	})
}
