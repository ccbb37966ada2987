package storebench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/narinfo"
)

// smallPaths is how many paths the closure of small paths has, each of three
// files and 20 KB.
const smallPaths = 200

// largePath is the size of the file of the large path, in bytes: 128 MiB, or what
// STOREBOOT_BENCH_LARGE says, in MiB.
func largePath(b *testing.B) int64 {
	mib := int64(128)
	if s := os.Getenv("STOREBOOT_BENCH_LARGE"); s != "" {
		if _, err := fmt.Sscan(s, &mib); err != nil {
			b.Fatal(err)
		}
	}
	return mib << 20
}

// cacheWorld is a closure in a Nix store, in a store of ours, and in a binary
// cache that Nix made of it without compression.
type cacheWorld struct {
	b                *testing.B
	dir, program     string
	root, ours, file string // the three
	path             string // whose closure it is
	hashes           []string
	bytes            int64 // of its NARs
}

func newCacheWorld(b *testing.B, large bool) *cacheWorld {
	for _, name := range []string{"nix", "nginx"} {
		if _, err := exec.LookPath(name); err != nil {
			b.Skipf("SKIP: %s is missing (apt-get install nix-bin nginx-light)", name)
		}
	}
	dir := scratch(b)
	w := &cacheWorld{b: b, dir: dir, program: build(b), root: dir + "/root", ours: dir + "/ours", file: dir + "/file"}
	var register strings.Builder
	if large {
		w.add(&register, 0, func(p string) error { return LargeFile(p, largePath(b)) })
	} else {
		for i := range smallPaths {
			w.add(&register, i, func(p string) error {
				err := os.MkdirAll(p+"/bin", 0o755)
				for j, name := range []string{"bin/program", "data", "share"} {
					err = errors.Join(err, os.WriteFile(filepath.Join(p, name), castoretest.Pattern(6000+i*3+j, uint64(i*3+j)), 0o644))
				}
				return err
			})
		}
	}
	if err := os.WriteFile(dir+"/register", []byte(register.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	run(b, "sh", "-c", `NIX_REMOTE="local?root=$0" nix-store --load-db <"$1"`, w.root, dir+"/register")
	run(b, w.program, "copy", "--from-nix", "--nix-root", w.root, "--store", w.ours, w.path)
	w.nix(w.root, "copy", "--to", "file://"+w.file+"?compression=none", w.path)
	return w
}

// add makes path i of the closure; it refers to the first one, and the last one to
// all.
func (w *cacheWorld) add(register *strings.Builder, i int, make func(string) error) {
	p := Path(i)
	path := p.Absolute()
	if err := errors.Join(os.MkdirAll(filepath.Dir(w.root+path), 0o755), make(w.root+path)); err != nil {
		w.b.Fatal(err)
	}
	got, err := ingest.Path(w.b.Context(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), w.root+path, nil)
	if err != nil {
		w.b.Fatal(err)
	}
	refs := w.hashes[:min(len(w.hashes), 1)]
	if i == smallPaths-1 {
		refs = w.hashes
	}
	fmt.Fprintf(register, "%s\n%x\n%d\n\n%d\n", path, got.NarSHA256, got.NarSize, len(refs))
	for j := range refs {
		fmt.Fprintln(register, Path(j).Absolute())
	}
	w.path, w.bytes, w.hashes = path, w.bytes+int64(got.NarSize), append(w.hashes, p.Hash.String())
}

// nix runs Nix's new command line on a store below root.
func (w *cacheWorld) nix(root string, args ...string) {
	w.b.Helper()
	cmd := command("nix", append([]string{"--extra-experimental-features", "nix-command", "--option", "narinfo-cache-negative-ttl", "0", "--option", "narinfo-cache-positive-ttl", "0"}, args...)...)
	home := filepath.Join(w.dir, "home")
	cmd.Env = append(cmd.Env, "NIX_REMOTE=local?root="+root, "HOME="+home, "XDG_CACHE_HOME="+home)
	if out, err := cmd.CombinedOutput(); err != nil {
		w.b.Fatalf("nix %q: %v: %s", args, err, out)
	}
	_ = os.RemoveAll(home) // what it remembers of caches
}

// serve starts a server, which listens at the address, and returns its URL.
func (w *cacheWorld) serve(cmd *exec.Cmd, address string) (url string, stop func()) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		w.b.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
			break
		}
		if time.Now().After(end) {
			_ = cmd.Process.Kill()
			w.b.Fatalf("%q does not listen: %s", cmd.Args, stderr.String())
		}
	}
	return "http://" + address, func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
}

// bridge serves a store of ours.
func (w *cacheWorld) bridge(store string) (url string, stop func()) {
	address := freeAddress(w.b)
	return w.serve(command(w.program, "nar-bridge", "-l", address, "--store", store), address)
}

// nginx serves the files of the binary cache, as a public cache may be served.
func (w *cacheWorld) nginx() (url string, stop func()) {
	address := freeAddress(w.b)
	dir := filepath.Join(w.dir, "nginx")
	config := fmt.Sprintf("daemon off; master_process off; pid %[1]s/pid; error_log stderr; events {}\n"+
		"http { access_log off; sendfile on; tcp_nopush on; client_body_temp_path %[1]s; proxy_temp_path %[1]s; fastcgi_temp_path %[1]s; uwsgi_temp_path %[1]s; scgi_temp_path %[1]s; server { listen %[2]s; root %[3]s; } }\n",
		dir, address, w.file)
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(dir+"/conf", []byte(config), 0o644)); err != nil {
		w.b.Fatal(err)
	}
	return w.serve(exec.Command("nginx", "-c", dir+"/conf", "-e", "stderr"), address)
}

func freeAddress(b *testing.B) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// get gets all narinfos and NARs, one after another, and drops them.
func (w *cacheWorld) get(url string) {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	get := func(path string, to io.Writer) int64 {
		resp, err := client.Get(url + "/" + path)
		if err != nil {
			w.b.Fatal(err)
		}
		defer resp.Body.Close()
		n, err := io.CopyBuffer(struct{ io.Writer }{to}, resp.Body, make([]byte, 256<<10))
		if err != nil || resp.StatusCode != http.StatusOK {
			w.b.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		return n
	}
	var total int64
	for _, hash := range w.hashes {
		var text bytes.Buffer
		get(hash+".narinfo", &text)
		n, err := narinfo.Parse(text.Bytes())
		if err != nil {
			w.b.Fatal(err)
		}
		total += get(n.URL, io.Discard)
	}
	if total != w.bytes {
		w.b.Fatalf("%d bytes of NARs came, want %d", total, w.bytes)
	}
}

// report reports MB/s of each contestant and ratios.
func (w *cacheWorld) report(times stopwatch, pairs ...[2]string) {
	w.b.ReportMetric(0, "ns/op")
	for name := range times {
		w.b.ReportMetric(float64(w.bytes)/1e6/times.median(name), name+"-MB/s")
	}
	for _, p := range pairs { // how much of the second one's speed the first one has
		w.b.ReportMetric(times.median(p[1])/times.median(p[0]), p[0]+"/"+p[1])
	}
}

// closures runs f for a closure of many small paths and for one large path.
func closures(b *testing.B, f func(*testing.B, *cacheWorld)) {
	for _, large := range []bool{false, true} {
		b.Run(map[bool]string{false: "small", true: "large"}[large], func(b *testing.B) { f(b, newCacheWorld(b, large)) })
	}
}

// BenchmarkCacheUpload uploads a closure over loopback, by turns:
//
//   - nix-bridge: nix copy to a nar-bridge, without compression;
//   - nix-file: nix copy to file://, without compression: the floor, with Nix's
//     own share, and nothing synced;
//   - push-bridge: virtiofsd push to a nar-bridge;
//   - push-file: virtiofsd push to file://, which syncs.
func BenchmarkCacheUpload(b *testing.B) {
	closures(b, func(b *testing.B, w *cacheWorld) {
		times := stopwatch{}
		for round := 0; b.Loop(); round++ {
			dir := filepath.Join(w.dir, "up"+strconv.Itoa(round))
			run(b, "mkdir", dir)
			for _, name := range []string{"nix", "push"} {
				upload := func(url string) {
					if name == "nix" {
						w.nix(w.root, "copy", "--to", url+"?compression=none", w.path)
					} else {
						run(b, w.program, "push", "--compression", "none", "--store", w.ours, url, w.path)
					}
				}
				url, stop := w.bridge(dir + "/" + name)
				settle(b, dir)
				times.time(name+"-bridge", func() { upload(url) })
				stop()
				settle(b, dir)
				times.time(name+"-file", func() { upload("file://" + dir + "/" + name + "-file") })
				settle(b, dir)
			}
			run(b, "rm", "-rf", dir)
		}
		w.report(times, [2]string{"nix-bridge", "nix-file"}, [2]string{"push-bridge", "push-file"})
	})
}

// BenchmarkCacheDownload downloads a closure over loopback, by turns:
//
//   - get-bridge, get-nginx: narinfos and NARs one after another, dropped, from a
//     nar-bridge, and from nginx with the same NARs as files: the floor;
//   - nix-bridge, nix-nginx: nix copy into a new store;
//   - fetch-bridge, fetch-nginx: virtiofsd fetch into a new store.
func BenchmarkCacheDownload(b *testing.B) {
	closures(b, func(b *testing.B, w *cacheWorld) {
		bridge, stopBridge := w.bridge(w.ours)
		defer stopBridge()
		nginx, stopNginx := w.nginx()
		defer stopNginx()
		times := stopwatch{}
		for round := 0; b.Loop(); round++ {
			dir := filepath.Join(w.dir, "down"+strconv.Itoa(round))
			run(b, "mkdir", dir)
			from := [][2]string{{"bridge", bridge}, {"nginx", nginx}}
			if round%2 == 1 {
				slices.Reverse(from)
			}
			for _, f := range from {
				settle(b, dir)
				times.time("get-"+f[0], func() { w.get(f[1]) })
				times.time("nix-"+f[0], func() { w.nix(dir+"/nix-"+f[0], "copy", "--no-check-sigs", "--from", f[1], w.path) })
				settle(b, dir)
				times.time("fetch-"+f[0], func() {
					run(b, w.program, "fetch", "--store", dir+"/ours-"+f[0], "--from", f[1]+"?allow-unsigned=1", w.path)
				})
				settle(b, dir)
			}
			run(b, "chmod", "-R", "u+w", dir)
			run(b, "rm", "-rf", dir)
		}
		w.report(times, [2]string{"get-bridge", "get-nginx"}, [2]string{"nix-bridge", "nix-nginx"}, [2]string{"fetch-nginx", "nix-nginx"})
	})
}
