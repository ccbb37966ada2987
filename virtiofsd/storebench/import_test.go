package storebench

import (
	"crypto/sha256"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/zeebo/blake3"
)

// BenchmarkImport takes trees into a new embedded store with the program
// itself, by turns with
//
//   - hash: the floor: reading the files and computing the SHA-256 and the
//     BLAKE3 of their bytes in one process, on one CPU, storing nothing;
//   - cp: the floor of storing: cp -r and one sync;
//   - nix: nix-store --add into a new store, which does not sync what it stores.
//
// The metrics are medians; hash/ours is how much of the floor's speed ours is.
func BenchmarkImport(b *testing.B) {
	program := build(b)
	b.Run("small", func(b *testing.B) {
		from := filepath.Join(scratch(b), "tree")
		bytes, err := SmallFiles(from, 20_000)
		if err != nil {
			b.Fatal(err)
		}
		benchmarkImport(b, program, from, bytes)
	})
	b.Run("large", func(b *testing.B) {
		const size = 1 << 30
		from := filepath.Join(scratch(b), "file")
		if err := LargeFile(from, size); err != nil {
			b.Fatal(err)
		}
		benchmarkImport(b, program, from, size)
	})
}

func benchmarkImport(b *testing.B, program, from string, bytes int64) {
	times := stopwatch{}
	_, err := exec.LookPath("nix-store")
	nix := err == nil
	if !nix {
		b.Log("nix-store is missing (apt-get install nix-bin): not compared")
	}
	round := 0
	for b.Loop() {
		// A round's stores are removed at its end: what ext4 has just deleted
		// makes it slow to create files nearby.
		round++
		dir := filepath.Join(scratch(b), strconv.Itoa(round))
		run(b, "mkdir", dir)
		settle(b, dir)
		times.time("hash", func() { hashFloor(b, from) })
		times.time("ours", func() { run(b, program, "import", "--store", dir+"/ours", from) })
		settle(b, dir)
		times.time("cp", func() { copyFloor(b, from, dir) })
		settle(b, dir)
		if nix {
			cmd := command("nix-store", "--add", from)
			cmd.Env = append(cmd.Env, "NIX_REMOTE=local?root="+dir+"/nix")
			times.time("nix", func() {
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("nix-store: %v: %s", err, out)
				}
			})
			settle(b, dir)
		}
	}
	times.report(b, "ours", "hash", "cp", "nix")
	b.ReportMetric(float64(bytes)/1e6/times.median("ours"), "MB/s")
}

// hashFloor reads what is at root into both hashes.
func hashFloor(b *testing.B, root string) {
	nar, blob := sha256.New(), blake3.New()
	err := readAll(root, make([]byte, 128<<10), blob.Reset, func(p []byte) {
		_, _ = nar.Write(p)
		_, _ = blob.Write(p)
		if len(p) == 0 {
			blob.Sum(nil)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
}
