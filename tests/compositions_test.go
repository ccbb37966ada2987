package tests

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/bttest"

	"storeboot/virtiofsd/objectstore/s3test"
)

// storeDaemon is a virtiofsd daemon.
type storeDaemon struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	// env makes a program use it.
	env []string
}

// startDaemon starts a daemon on a unix socket, with services at the addresses.
func (w *world) startDaemon(env []string, blobs, directories, pathInfos string) *storeDaemon {
	w.t.Helper()
	socket := filepath.Join(w.runtime, "daemon.sock")
	d := &storeDaemon{cmd: w.command(context.Background(), env, "virtiofsd", "daemon", "-l", socket,
		"--blob-service-addr", blobs, "--directory-service-addr", directories, "--path-info-service-addr", pathInfos)}
	d.cmd.Stderr = &d.stderr
	if err := d.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	for _, name := range []string{"BLOB", "DIRECTORY", "PATH_INFO"} {
		d.env = append(d.env, name+"_SERVICE_ADDR=grpc+unix://"+socket)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return d
		}
		if time.Now().After(deadline) {
			_ = d.cmd.Process.Kill()
			_ = d.cmd.Wait()
			w.t.Fatalf("the daemon does not listen: %v: %s", err, &d.stderr)
		}
	}
}

// stop ends the daemon as an operator does.
func (d *storeDaemon) stop(t *testing.T) {
	t.Helper()
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	if err := d.cmd.Wait(); err != nil {
		t.Errorf("daemon: %v: %s", err, &d.stderr)
	}
}

// TestCompositions boots from stores of many kinds behind a daemon: the table of
// spec/store.md 5.6, with the restart of the daemon where the store outlives it.
// Each store takes a tree by import and a closure by copy, and is found by find,
// run from and booted from.
func TestCompositions(t *testing.T) {
	needVM(t)
	tests := []struct {
		name       string
		addresses  func(t *testing.T) (env []string, blobs, directories, pathInfos string)
		persistent bool
		// attrs: the closure is copied as the original does it in a builder, from
		// the JSON of exportReferencesGraph.
		attrs bool
		// system: what is booted is an init, by switch_root, as a NixOS is.
		system bool
	}{
		{name: "memory", addresses: func(*testing.T) ([]string, string, string, string) {
			return nil, "memory:", "memory:", "memory:"
		}},
		{name: "object files, embedded tables", addresses: func(t *testing.T) ([]string, string, string, string) {
			dir := t.TempDir()
			return nil, "objectstore+file://" + dir + "/blobs", "redb://" + dir + "/directories.redb", "redb://" + dir + "/pathinfo.redb"
		}, persistent: true, system: true},
		{name: "object files, memory", addresses: func(t *testing.T) ([]string, string, string, string) {
			return nil, "objectstore+file://" + t.TempDir(), "memory:", "memory:"
		}, attrs: true},
		{name: "Bigtable", addresses: func(t *testing.T) ([]string, string, string, string) {
			env, table := startBigtable(t)
			return env, "objectstore+file://" + t.TempDir(), table, table
		}, persistent: true, system: true},
		{name: "S3, memory", addresses: func(t *testing.T) ([]string, string, string, string) {
			return nil, startS3(t), "memory:", "memory:"
		}, attrs: true, system: true},
		{name: "S3 and Bigtable", addresses: func(t *testing.T) ([]string, string, string, string) {
			env, table := startBigtable(t)
			return env, startS3(t), table, table
		}, persistent: true},
		{name: "all in S3 but path infos", addresses: func(t *testing.T) ([]string, string, string, string) {
			// Theirs cannot: its bundles answer for their roots alone.
			s3 := startS3(t)
			return nil, s3, s3, "redb://" + t.TempDir() + "/pathinfo.redb"
		}, persistent: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			hello := w.addHello() // into the store of the files too
			env, blobs, directories, pathInfos := tt.addresses(t)
			d := w.startDaemon(env, blobs, directories, pathInfos)
			docs, system := w.seed(d, hello, tt.attrs)
			if tt.persistent {
				d.stop(t)
				d = w.startDaemon(env, blobs, directories, pathInfos)
			}
			r := w.run(append(d.env, "CH_CMDLINE=snix.find"), "launcher")
			if r.code != 0 || !strings.Contains(r.stdout, hello+"/bin/hello") || !strings.Contains(r.stdout, docs+"/main.go") {
				t.Errorf("find: %s\n%s", r, &d.stderr)
			}
			if tt.system {
				r = w.run(append(d.env, "CH_CMDLINE=init="+system+"/init panic=-1"), "launcher")
				if r.code != 0 || !strings.Contains(r.stdout, "system: mount /nix/store virtiofs ro") {
					t.Errorf("boot: %s\n%s", r, &d.stderr)
				}
			} else {
				r = w.run(d.env, "launcher", "run", hello+"/bin/hello")
				if r.code != 0 || r.stdout != "Hello, world!\n" {
					t.Errorf("run: %s\n%s", r, &d.stderr)
				}
			}
			d.stop(t)
		})
	}
}

// seed fills the store of the daemon: a tree by import, the closure of hello by
// copy, and the guest program as a system.
func (w *world) seed(d *storeDaemon, hello string, attrs bool) (docs, system string) {
	w.t.Helper()
	must := func(r result) string {
		w.t.Helper()
		if r.code != 0 {
			w.t.Fatalf("%s\n%s", r, &d.stderr)
		}
		return strings.TrimSpace(r.stdout)
	}
	dir := filepath.Join(w.t.TempDir(), "docs")
	if err := os.CopyFS(dir, os.DirFS("guestprog")); err != nil {
		w.t.Fatal(err)
	}
	docs = must(w.run(d.env, "virtiofsd", "import", dir))
	if attrs {
		file := filepath.Join(w.t.TempDir(), ".attrs.json")
		if err := os.WriteFile(file, []byte(closureJSON(w.t, hello)), 0o600); err != nil {
			w.t.Fatal(err)
		}
		s := w.linkOriginalStore("snix-store")
		s.env = append(d.env, "NIX_ATTRS_JSON_FILE="+file)
		s.must("", "copy")
	} else {
		must(w.run(d.env, "virtiofsd", "copy", "--from-nix", hello))
	}
	system = w.addGuestProg()
	to := strings.TrimPrefix(d.env[0], "BLOB_SERVICE_ADDR=")
	must(w.run(nil, "virtiofsd", "copy", system, "--to-blob-service-addr", to, "--to-directory-service-addr", to, "--to-path-info-service-addr", to))
	return docs, system
}

// startBigtable runs Google's emulator in this process, and returns the
// environment that names it and an address with a table in it.
func startBigtable(t *testing.T) (env []string, address string) {
	t.Helper()
	server, err := bttest.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Setenv("BIGTABLE_EMULATOR_HOST", server.Addr)
	ctx := t.Context()
	admin, err := bigtable.NewAdminClient(ctx, "project", "instance")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CreateTable(ctx, "store"); err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateColumnFamily(ctx, "store", "cf"); err != nil {
		t.Fatal(err)
	}
	return []string{"BIGTABLE_EMULATOR_HOST=" + server.Addr}, "bigtable://instance?project_id=project&table_name=store&family_name=cf"
}

// startS3 runs a real S3 server and returns the address of a bucket in it.
func startS3(t *testing.T) string {
	t.Helper()
	return s3test.Start(t).Bucket(t, "bucket", "store")
}
