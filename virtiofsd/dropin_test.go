package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/storeaddr"
)

// serviceAddresses are the variables with the addresses of the services.
var serviceAddresses = []string{"BLOB_SERVICE_ADDR", "DIRECTORY_SERVICE_ADDR", "PATH_INFO_SERVICE_ADDR"}

// clearDropInEnv clears the variables that the drop-in commands read.
func clearDropInEnv(t *testing.T) {
	t.Helper()
	for _, name := range append([]string{"EXPERIMENTAL_STORE_COMPOSITION", attrsFileEnv, "THREADS", "ALLOW_OTHER", "RUST_LOG"}, serviceAddresses...) {
		t.Setenv(name, "")
	}
}

// dropIn runs the command as name.
func dropIn(ctx context.Context, name, stdin string, args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = cli.Run(ctx, newDropInCommand(name), args, cli.Streams{In: strings.NewReader(stdin), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// dropInDaemon runs the daemon of name on a socket until the test ends, and
// makes it the store of the environment.
func dropInDaemon(t *testing.T, name string, args ...string) {
	t.Helper()
	clearDropInEnv(t)
	for _, address := range serviceAddresses {
		t.Setenv(address, "memory://")
	}
	socket := filepath.Join(shortDir(t), "s")
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan string, 1)
	go func() {
		code, stdout, stderr := dropIn(ctx, name, "", append([]string{"--otlp=false", "daemon", "-l", socket}, args...)...)
		if code == 0 && stdout == "" {
			stderr = ""
		}
		ended <- stderr
	}()
	t.Cleanup(func() {
		cancel()
		if stderr := <-ended; stderr != "" {
			t.Errorf("daemon: %s", stderr)
		}
	})
	dialDaemon(t, socket) // by then it has opened the store
	for _, address := range serviceAddresses {
		t.Setenv(address, "grpc+unix://"+socket)
	}
}

func TestCommandOf(t *testing.T) {
	for argv0, want := range map[string]string{
		"virtiofsd":                       "virtiofsd",
		"/usr/bin/tvix-store":             "tvix-store",
		"snix-store":                      "snix-store",
		"tvix-store-2":                    "virtiofsd",
		"":                                "virtiofsd",
		"/nix/store/x-snix-store/bin/foo": "virtiofsd",
	} {
		if got := commandOf(argv0).Name(); got != want {
			t.Errorf("called as %q it is %s, want %s", argv0, got, want)
		}
	}
}

// TestDropInName runs the program under another name, in a process of its own.
func TestDropInName(t *testing.T) {
	cmd := process("--otlp=false", "import", "--help")
	cmd.Args[0] = "/usr/bin/snix-store"
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "snix-store import PATH...") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestDropInDefaults holds the default addresses, which scripts rely on.
func TestDropInDefaults(t *testing.T) {
	clearDropInEnv(t)
	client := [3]string{"grpc+http://[::1]:8000", "grpc+http://[::1]:8000", "grpc+http://[::1]:8000"}
	for _, tt := range []struct {
		name, command string
		want          [3]string
	}{
		{"tvix-store", "daemon", [3]string{"objectstore+file:///var/lib/tvix-store/blobs.object_store", "redb:///var/lib/tvix-store/directories.redb", "redb:///var/lib/tvix-store/pathinfo.redb"}},
		{"snix-store", "daemon", [3]string{"objectstore+file:///var/lib/snix-castore/blobs", "redb:///var/lib/snix-castore/directories.redb", "redb:///var/lib/snix-store/pathinfo.redb"}},
		{"tvix-store", "import", client},
		{"snix-store", "copy", client},
		{"tvix-store", "mount", client},
		{"snix-store", "virtiofs", client},
	} {
		c, _, err := newDropInCommand(tt.name).Find([]string{tt.command})
		if err != nil {
			t.Fatal(err)
		}
		for i, flag := range []string{"blob-service-addr", "directory-service-addr", "path-info-service-addr"} {
			if f := c.Flags().Lookup(flag); f == nil || f.Value.String() != tt.want[i] {
				t.Errorf("%s %s: --%s is %v, want %s", tt.name, tt.command, flag, f, tt.want[i])
			}
		}
		if c.Flags().Lookup("experimental-store-composition") == nil || c.Flags().Lookup("store") != nil {
			t.Errorf("%s %s has other flags than the original", tt.name, tt.command)
		}
	}
}

func TestDropInImport(t *testing.T) {
	newStore(t)
	file := filepath.Join(t.TempDir(), "docs")
	write(t, file, map[string]string{"a": "A", "b*": "B"})
	want := must(t, "import", file)
	for _, name := range []string{"tvix-store", "snix-store"} {
		t.Run(name, func(t *testing.T) {
			dropInDaemon(t, name)
			code, stdout, stderr := dropIn(t.Context(), name, "", "--otlp=false", "import", file)
			if code != 0 || stdout != want || stderr != "" {
				t.Errorf("exit %d, %q, %s, want %q", code, stdout, stderr, want)
			}
			if list := must(t, "list"); list != want {
				t.Errorf("the daemon's store lists %q", list)
			}
		})
	}
}

// TestDropInVirtiofs holds that the daemon of a VM ends with it.
func TestDropInVirtiofs(t *testing.T) {
	dropInDaemon(t, "tvix-store")
	socket := filepath.Join(shortDir(t), "fs")
	result := make(chan string, 1)
	go func() {
		code, stdout, stderr := dropIn(context.Background(), "tvix-store", "", "--otlp=false", "virtiofs", "-l", socket)
		if code == 0 && stdout == "" {
			stderr = ""
		}
		result <- stderr
	}()
	var conn net.Conn
	for range 1000 {
		c, err := net.Dial("unix", socket)
		if err == nil {
			conn = c
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if conn == nil {
		t.Fatal("nobody listens")
	}
	_ = conn.Close()
	if stderr := <-result; stderr != "" {
		t.Errorf("virtiofs: %s", stderr)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left")
	}
}

func TestDropInRefuses(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, map[string]string{"bad name": "", "redb": "redb\x1a\x0a\xa9\x0d\x0a..."})
	for _, tt := range []struct {
		name string
		env  string
		args []string
		code int
		err  string
	}{
		{"unknown command", "", []string{"deamon"}, 2, "did you mean daemon?"},
		{"commands of virtiofsd", "", []string{"gc"}, 2, "gc"},
		{"otlp takes its value with =", "", []string{"--otlp", "false", "import", "x"}, 2, `"false"`},
		{"no path", "", []string{"import"}, 2, "PATH is missing"},
		{"bad name", "", []string{"import", dir + "/bad name"}, 1, "bad name"},
		{"no daemon", "", []string{"import", dir + "/redb", "--blob-service-addr=grpc+unix:/none?wait-connect=1"}, 1, "/none"},
		{"flag of virtiofsd", "", []string{"import", "--store", dir, dir}, 2, "--store"},
		{"no closure", "", []string{"copy"}, 2, attrsFileEnv},
		{"two closures", "", []string{"copy", "a", "b"}, 2, "at most 1"},
		{"closure that is not there", attrsFileEnv + "=/none/attrs", []string{"copy"}, 1, "/none/attrs"},
		{"no threads", "", []string{"mount", "--threads", "0", dir}, 2, "--threads"},
		{"bad threads", "THREADS=many", []string{"mount", dir}, 2, "THREADS"},
		{"bad allow-other", "ALLOW_OTHER=perhaps", []string{"mount", dir}, 2, "ALLOW_OTHER"},
		{"the flag counts before the variable", "THREADS=many", []string{"mount", "--threads=1", dir + "/none"}, 1, dir + "/none"},
		{"mount on nothing", "ALLOW_OTHER=true", []string{"mount", "-l", "--show-xattr", dir + "/none"}, 1, dir + "/none"},
		{"no socket", "", []string{"virtiofs", "-l"}, 2, "SOCKET is missing"},
		{"empty socket", "", []string{"virtiofs", ""}, 2, "SOCKET is empty"},
		{"socket in no directory", "", []string{"virtiofs", dir + "/no/s"}, 1, dir + "/no/s"},
		{"foreign database", "", []string{"daemon", "-l", dir + "/s", "--blob-service-addr=memory:", "--directory-service-addr=memory:", "--path-info-service-addr=redb://" + dir + "/redb"}, 1, "is a redb database"},
		{"bad address to listen on", "", []string{"daemon", "-l", "nowhere"}, 1, "nowhere"},
		{"chmod of TCP", "", []string{"daemon", "--unix-listen-chmod", "group"}, 2, "--unix-listen"},
		{"chmod to somebody", "", []string{"daemon", "-l", dir + "/s", "--unix-listen-chmod", "me"}, 2, "everybody"},
		{"TCP flags on a socket", "", []string{"daemon", "-l", dir + "/s", "--tcp-reuse-port"}, 2, "IP:PORT"},
		{"TCP flags without address", "", []string{"daemon", "--tcp-reuse-port"}, 2, "IP:PORT"},
		{"bad keepalive", "", []string{"daemon", "-l", "127.0.0.1:0", "--tcp-keepalive", "1:x"}, 2, "MS:COUNT:MS"},
		{"negative buffer", "", []string{"daemon", "-l", "127.0.0.1:0", "--recv-buffer-size=-1"}, 2, "negative"},
		{"IPv4 only on IPv6", "", []string{"daemon", "-l", "127.0.0.1:0", "--tcp-only-v6"}, 1, "127.0.0.1"},
		{"bad level", "", []string{"--log-level=loud", "daemon"}, 2, "--log-level"},
		{"bad level of a mount", "", []string{"--log-level=loud", "mount", dir}, 2, "--log-level"},
		{"TCP flags on standard input", "", []string{"daemon", "-l", "stdio", "--tcp-reuse-port"}, 2, "IP:PORT"},
		{"socket flags on a virtual socket", "", []string{"daemon", "-l", "vsock:1:1", "--unix-listen-unlink"}, 2, "file system"},
		{"virtual socket without port", "", []string{"daemon", "-l", "vsock:1"}, 1, "vsock:CID:PORT"},
		{"virtual socket with names", "", []string{"daemon", "-l", "vsock:host:port"}, 1, "vsock:CID:PORT"},
		{"environment of systemd", "", []string{"daemon", "--sd-accept-ignore-environment"}, 2, "sd-listen"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			clearDropInEnv(t)
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			code, stdout, stderr := dropIn(t.Context(), "tvix-store", "", tt.args...)
			line, rest, _ := strings.Cut(stderr, "\n")
			if code != tt.code || stdout != "" || !strings.Contains(line, tt.err) || rest != "" && code != 2 {
				t.Errorf("exit %d, output %q, %s, want exit %d and %q", code, stdout, stderr, tt.code, tt.err)
			}
		})
	}
}

func TestDropInLogLevel(t *testing.T) {
	for _, tt := range []struct{ env, flag, want string }{
		{"", "", "info"},
		{"warn", "", "warn"},
		{"ERROR", "", "error"},
		{"trace", "", "debug"},
		{"off", "", noLevel},
		{"tvix_store=debug", "", "info"},
		{"tvix_store=debug, warn", "", "warn"},
		{"warn", "debug", "debug"},
		{"", "TRACE", "debug"},
		{"", "1", "error"},
	} {
		t.Setenv("RUST_LOG", tt.env)
		got, err := (&dropInGlobals{logLevel: tt.flag}).level()
		if err != nil || got != tt.want {
			t.Errorf("RUST_LOG=%s, --log-level %q: %s, %v, want %s", tt.env, tt.flag, got, err, tt.want)
		}
		if _, err := newLogger(io.Discard, got, false); err != nil {
			t.Errorf("%s is no level: %v", got, err)
		}
	}
}

// TestDropInGlobals gives the flags of all versions where each had them: before
// the subcommand.
func TestDropInGlobals(t *testing.T) {
	clearDropInEnv(t)
	socket := filepath.Join(shortDir(t), "s")
	ctx, cancel := context.WithCancel(t.Context())
	var stderr string
	ended := make(chan int, 1)
	go func() {
		var code int
		code, _, stderr = dropIn(ctx, "tvix-store", "", "--otlp=false", "--json", "--log-level", "INFO", "daemon", "-l", socket,
			"--blob-service-addr=memory://", "--directory-service-addr=memory://", "--path-info-service-addr=memory://")
		ended <- code
	}()
	dialDaemon(t, socket)
	cancel()
	if code := <-ended; code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	var line struct{ Level, Msg string }
	first, _, _ := strings.Cut(stderr, "\n")
	if err := json.Unmarshal([]byte(first), &line); err != nil || line.Level != "INFO" || line.Msg != "listening" {
		t.Errorf("%v: the log begins %q", err, first)
	}
}

// TestDropInView holds what the flags of mount and virtiofs mean.
func TestDropInView(t *testing.T) {
	v := (&dropInView{showXattr: true}).view("tvix-store")
	if !v.HideRoot || v.DigestPrefix != "user.tvix.castore" || !strings.HasPrefix(v.Digest(castore.Digest{}), "b3:AAAA") {
		t.Errorf("%+v", v)
	}
	v = (&dropInView{listRoot: true, showXattr: true}).view("snix-store")
	if v.HideRoot || v.DigestPrefix != "user.snix.castore" {
		t.Errorf("%+v", v)
	}
	if v = (&dropInView{}).view("snix-store"); v.DigestPrefix != "" {
		t.Errorf("%+v", v)
	}
}

func TestDropInListen(t *testing.T) {
	dir := shortDir(t)
	stale := filepath.Join(dir, "busy")
	other, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, tt := range []struct {
		name string
		o    listenOptions
		mode os.FileMode // of the socket
	}{
		{"socket", listenOptions{address: filepath.Join(dir, "a"), unixUID: -1, unixGID: -1}, 0o600},
		{"socket for all", listenOptions{address: filepath.Join(dir, "b"), unixChmod: "everybody", unixUID: -1, unixGID: -1}, 0o666},
		{"socket for the group", listenOptions{address: filepath.Join(dir, "c"), unixChmod: "group", unixUID: os.Getuid(), unixGID: os.Getgid()}, 0o660},
		{"socket in use", listenOptions{address: stale, unixUnlink: true, unixUID: -1, unixGID: -1}, 0o600},
		{"loopback", listenOptions{address: ":0", unixUID: -1, unixGID: -1}, 0},
		{"TCP", listenOptions{address: "127.0.0.1:0", reusePort: true, recvBuffer: 1 << 16, sendBuffer: 1 << 16, backlog: 3, keepAlive: "1000:3:500", unixUID: -1, unixGID: -1}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			list, err := tt.o.listen(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				for _, l := range list {
					_ = l.Close()
				}
			}()
			c, err := net.Dial(list[0].Addr().Network(), list[0].Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			if tt.mode == 0 {
				return
			}
			if info, err := os.Stat(tt.o.address); err != nil || info.Mode().Perm() != tt.mode {
				t.Errorf("mode %v, %v, want %v", info.Mode().Perm(), err, tt.mode)
			}
		})
	}
}

// TestDropInComposition holds that the composition replaces the addresses, with
// the flag and with the variable.
func TestDropInComposition(t *testing.T) {
	newStore(t)
	clearDropInEnv(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "store.toml")
	write(t, dir, map[string]string{"f": "F", "store.toml": `
[blobservices.root]
type = "file"
path = "` + dir + `/blobs"
[directoryservices.root]
type = "redb"
is_temporary = false
path = "` + dir + `/d.redb"
[pathinfoservices.root]
type = "redb"
is_temporary = false
path = "` + dir + `/d.redb"
`})
	code, stdout, stderr := dropIn(t.Context(), "snix-store", "", "import", "--experimental-store-composition", file, dir+"/f")
	if code != 0 || stderr != "" {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	t.Setenv("EXPERIMENTAL_STORE_COMPOSITION", file)
	if list := must(t, "list"); list != stdout {
		t.Errorf("the store lists %q, want %q", list, stdout)
	}
	if got := must(t, "cat", strings.TrimSpace(stdout)); got != "F" {
		t.Errorf("the file reads %q", got)
	}
	s, err := storeaddr.Open(t.Context(), storeaddr.Addresses{Composition: file})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestDropInProcess runs the original's way of starting a VM's store, with our
// program under the original's name in $PATH, and ends it with SIGTERM.
func TestDropInProcess(t *testing.T) {
	clearDropInEnv(t)
	dir := shortDir(t)
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "tvix-store")); err != nil {
		t.Fatal(err)
	}
	script := `set -e
tvix-store --otlp=false daemon -l $PWD/d --blob-service-addr=memory:// --directory-service-addr=memory:// --path-info-service-addr=memory:// 2>/dev/null &
daemon=$!
while ! test -S d; do sleep 0.05; done
export BLOB_SERVICE_ADDR=grpc+unix://$PWD/d DIRECTORY_SERVICE_ADDR=grpc+unix://$PWD/d PATH_INFO_SERVICE_ADDR=grpc+unix://$PWD/d
tvix-store --otlp=false import script
tvix-store --otlp=false virtiofs -l s 2>/dev/null &
fs=$!
while ! test -S s; do sleep 0.05; done
kill $fs $daemon
wait $fs
wait $daemon
`
	write(t, dir, map[string]string{"script": script})
	cmd := exec.Command("/bin/sh", "script")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asCommand+"=1", "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "/nix/store/") || !strings.HasSuffix(string(out), "-script\n") {
		t.Errorf("%v: %s", err, out)
	}
}
