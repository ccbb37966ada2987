package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore/castoretest"
)

// readOnly makes a store with one path, and shows it at another place where
// nothing can be written.
func readOnly(t *testing.T) (store, path string) {
	t.Helper()
	writable := newStore(t)
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, map[string]string{"a": "content of a", "large": string(castoretest.Pattern(400_000, 1))})
	path = strings.TrimSpace(must(t, "import", src))
	must(t, "gc", "--add-root", "kept", path)
	store = t.TempDir()
	if err := unix.Mount(writable, store, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("SKIP: no directory can be mounted read-only (root may): %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(store, unix.MNT_DETACH) })
	if err := unix.Mount("", store, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return store, path
}

// checkReads reads a store that cannot be written to in all ways.
func checkReads(t *testing.T, store, path string) {
	t.Helper()
	for _, tt := range []struct {
		want string
		args []string
	}{
		{path + "\n", []string{"list"}},
		{"a\nlarge\n", []string{"ls", path}},
		{"content of a", []string{"cat", path + "/a"}},
		{path, []string{"stat", path}},
		{"nix-archive-1", []string{"export", path}},
		{"damaged: 0", []string{"verify"}},
		{"kept " + path, []string{"gc", "--list-roots"}},
		{"would remove store paths: 0", []string{"gc", "--dry-run"}},
	} {
		if out := must(t, append(tt.args, "--store", store)...); !strings.Contains(out, tt.want) {
			t.Errorf("%s prints %q", tt.args[0], out)
		}
	}
	target := filepath.Join(t.TempDir(), "target")
	must(t, "copy", "--store", store, "--to-store", target, path)
	must(t, "verify", "--store", target)
}

// TestReadOnly holds that a store on a read-only disk can be read as any other,
// and that what would write says in one line where it cannot, and what to do.
func TestReadOnly(t *testing.T) {
	store, path := readOnly(t)
	garbage := filepath.Join(t.TempDir(), "garbage")
	write(t, garbage, map[string]string{"b": "content of b"})
	must(t, "import", garbage)
	checkReads(t, store, path)
	other := newStore(t)
	source := strings.TrimSpace(must(t, "import", sampleTree(t)))
	for _, args := range [][]string{
		{"import", "--store", store, sampleTree(t)},
		{"copy", "--to-store", store, source},
		{"gc", "--store", store, "--grace", "0"},
		{"gc", "--store", store, "--add-root", "new", path},
		{"gc", "--store", store, "--remove-root", "kept"},
	} {
		refused(t, 1, []string{store, "read-only file system", "make it writable"}, args...)
	}
	checkReads(t, store, path)
	if list := strings.Fields(must(t, "list", "--store", other)); !slices.Equal(list, []string{source}) {
		t.Errorf("the other store holds %q", list)
	}
}

// TestReadOnlyDaemon has a daemon of a store that cannot be written to: reads
// work, writes say where they cannot.
func TestReadOnlyDaemon(t *testing.T) {
	store, path := readOnly(t)
	socket := filepath.Join(shortDir(t), "s")
	c, _ := daemonProcess(t, socket, "--store", store)
	for p, err := range c.PathInfos().List(t.Context()) {
		if err != nil || p.StorePath.Absolute() != path {
			t.Errorf("the daemon lists %v, %v", p, err)
		}
	}
	address := "grpc+unix://" + socket
	args := []string{"--blob-service-addr", address, "--directory-service-addr", address, "--path-info-service-addr", address}
	if out := must(t, append([]string{"cat", path + "/a"}, args...)...); out != "content of a" {
		t.Errorf("cat prints %q", out)
	}
	refused(t, 1, []string{store, "read-only file system", "make it writable"}, append([]string{"import", sampleTree(t)}, args...)...)
	if out := must(t, append([]string{"cat", path + "/a"}, args...)...); out != "content of a" {
		t.Errorf("cat prints %q after a failed import", out)
	}
}

// TestReadOnlyWriter holds that a reader of a store at a read-only place sees
// what is written to it at another, whether the writer is there now, comes
// later, or was killed.
func TestReadOnlyWriter(t *testing.T) {
	store, path := readOnly(t)
	writable := os.Getenv("STOREBOOT_STORE")
	tree := func(name string) string {
		dir := filepath.Join(t.TempDir(), name)
		write(t, dir, map[string]string{"x": name})
		return dir
	}
	reader, _ := daemonProcess(t, filepath.Join(shortDir(t), "r"), "--store", store) // before there is a writer
	paths := []string{path}
	check := func(when string) {
		t.Helper()
		slices.Sort(paths)
		var got []string
		for p, err := range reader.PathInfos().List(t.Context()) {
			if err != nil {
				t.Fatalf("%s: %v", when, err)
			}
			got = append(got, p.StorePath.Absolute())
		}
		if slices.Sort(got); !slices.Equal(got, paths) {
			t.Errorf("%s: a daemon lists %q, want %q", when, got, paths)
		}
		list := strings.Fields(must(t, "list", "--store", store))
		if slices.Sort(list); !slices.Equal(list, paths) {
			t.Errorf("%s: list prints %q, want %q", when, list, paths)
		}
	}
	check("before")
	socket := filepath.Join(shortDir(t), "w")
	_, writer := daemonProcess(t, socket, "--store", writable)
	address := "grpc+unix://" + socket
	paths = append(paths, strings.TrimSpace(must(t, "import", tree("one"), "--blob-service-addr", address, "--directory-service-addr", address, "--path-info-service-addr", address)))
	check("beside a writer")
	if err := writer.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = writer.Wait() // it was killed
	check("after it was killed")
	paths = append(paths, strings.TrimSpace(must(t, "import", tree("two"), "--store", writable)))
	check("after another one")
}

// TestNoPermission is the same for a user who may not write to the store.
func TestNoPermission(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIP: only root can run the command as another user")
	}
	store := newStore(t)
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, map[string]string{"a": "content of a"})
	path := strings.TrimSpace(must(t, "import", src))
	for dir := store; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (string, error) {
		cmd := process(append(args, "--store", store)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("cat", path+"/a"); err != nil && strings.Contains(err.Error(), "permission denied") {
		t.Skipf("SKIP: the test program is where other users cannot run it: %v", err)
	} else if err != nil || out != "content of a" {
		t.Errorf("cat: %q, %v", out, err)
	}
	if out, err := run("list"); err != nil || out != path+"\n" {
		t.Errorf("list: %q, %v", out, err)
	}
	if out, err := run("import", src); err == nil || !strings.Contains(out, store) || !strings.Contains(out, "permission denied") || !strings.Contains(out, "make it writable") || strings.Count(out, "\n") != 1 {
		t.Errorf("import: %q, %v", out, err)
	}
}

// TestReadOnlyServe serves such a store to a VM.
func TestReadOnlyServe(t *testing.T) {
	store, _ := readOnly(t)
	ctx, cancel := context.WithCancel(t.Context())
	socket := filepath.Join(shortDir(t), "s")
	code := make(chan int, 1)
	var out, stderr strings.Builder
	go func() {
		code <- cli.Run(ctx, newCommand(), []string{"serve", "--socket-path", socket, "--store", store}, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &stderr})
	}()
	await(t, "serve listens", func() bool { _, err := os.Lstat(socket); return err == nil || len(code) > 0 })
	cancel()
	if got := <-code; got != 0 {
		t.Errorf("exit %d: %s", got, stderr.String())
	}
}
