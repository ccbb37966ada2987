package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

// BenchmarkOnDemand boots the closure of hello, by turns:
//
//   - demand: into an empty store, from a binary cache on loopback;
//   - local: from a store that has all of it, with the same command.
//
// The metrics are medians, from the start of the launcher to its end, and the
// requests and bytes that the cache was asked for in one boot on demand.
func BenchmarkOnDemand(b *testing.B) {
	bin, err := programs()
	if err != nil {
		b.Fatal(err)
	}
	hello, err := helloClosure()
	if err != nil {
		b.Fatal(err)
	}
	u := newUpstream(b, hello)
	dir := b.TempDir()
	boot := func(store string) time.Duration {
		cmd := exec.Command(filepath.Join(bin, "launcher"), "run", "--substituter", u.URL, "--trusted-public-keys", u.key, hello+"/bin/hello")
		cmd.Env = append(os.Environ(), "STOREBOOT_STORE="+store, "XDG_RUNTIME_DIR="+dir)
		begin := time.Now()
		out, err := cmd.CombinedOutput()
		if err != nil || string(out) != "Hello, world!\n" {
			b.Fatalf("launcher: %v: %s", err, out)
		}
		return time.Since(begin)
	}
	full := filepath.Join(dir, "full")
	boot(full)
	var demand, local []time.Duration
	var requests, bytes int64
	for round := 0; b.Loop(); round++ {
		requests, bytes = u.requests.Load(), u.bytes.Load()
		demand = append(demand, boot(filepath.Join(dir, strconv.Itoa(round))))
		requests, bytes = u.requests.Load()-requests, u.bytes.Load()-bytes
		local = append(local, boot(full))
		if n := u.requests.Load(); round == 0 && n != 2*requests {
			b.Fatalf("a boot from the full store asked the cache %d times", n-2*requests)
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return d[len(d)/2].Seconds() }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(demand), "demand-s")
	b.ReportMetric(median(local), "local-s")
	b.ReportMetric(median(local)/median(demand), "local/demand")
	b.ReportMetric(float64(requests), "requests")
	b.ReportMetric(float64(bytes), "bytes")
}
