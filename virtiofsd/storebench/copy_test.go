package storebench

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkCopy copies the tree of small files and the large file, each in a
// store, between an embedded store and a daemon's on a unix socket, with the
// program itself, by turns with
//
//   - cp: the floor: cp -r of the blobs and one sync.
//
// pull copies from the daemon, push to it.
func BenchmarkCopy(b *testing.B) {
	program := build(b)
	for _, tt := range []struct {
		name string
		make func(path string) (int64, error)
	}{
		{"small", func(path string) (int64, error) { return SmallFiles(path, 20_000) }},
		{"large", func(path string) (int64, error) { return 1 << 30, LargeFile(path, 1<<30) }},
	} {
		b.Run(tt.name, func(b *testing.B) {
			dir := scratch(b)
			bytes, err := tt.make(dir + "/tree")
			if err != nil {
				b.Fatal(err)
			}
			out, err := command(program, "import", "--store", dir+"/from", dir+"/tree").Output()
			if err != nil {
				b.Fatal(err)
			}
			path := strings.TrimSpace(string(out))
			times := stopwatch{}
			for b.Loop() {
				round := filepath.Join(dir, strconv.Itoa(b.N)+strconv.Itoa(len(times["cp"])))
				run(b, "mkdir", round)
				settle(b, dir)
				times.time("cp", func() { copyFloor(b, dir+"/from/blobs", round) })
				settle(b, dir)
				copyTo(b, times, "pull", program, dir+"/from", func(address string) []string {
					return append([]string{"copy", path, "--to-store", round + "/pull"}, addresses("--", address)...)
				})
				settle(b, dir)
				copyTo(b, times, "push", program, round+"/push", func(address string) []string {
					return append([]string{"copy", path, "--store", dir + "/from"}, addresses("--to-", address)...)
				})
				settle(b, dir)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(times.median("cp"), "cp-s")
			for _, way := range []string{"pull", "push"} {
				b.ReportMetric(float64(bytes)/1e6/times.median(way), way+"-MB/s")
				b.ReportMetric(times.median("cp")/times.median(way), "cp/"+way)
			}
		})
	}
}

// copyTo times a copy while a daemon serves store.
func copyTo(b *testing.B, times stopwatch, name, program, store string, args func(address string) []string) {
	socket := filepath.Join(socketDir(b), "s")
	daemon := startDaemon(b, program, store, socket)
	defer stopDaemon(b, daemon)
	line := args("grpc+unix://" + socket)
	times.time(name, func() { run(b, program, line...) })
}

// addresses are the flags that name one address for all services.
func addresses(prefix string, address string) []string {
	var flags []string
	for _, service := range []string{"blob", "directory", "path-info"} {
		flags = append(flags, prefix+service+"-service-addr", address)
	}
	return flags
}
