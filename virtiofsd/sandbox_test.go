package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// TestSandbox holds that a daemon in its sandbox serves, and that it cannot read
// what is outside its store, also where a path in the store leads there.
func TestSandbox(t *testing.T) {
	for _, mode := range []string{"none", "landlock"} {
		t.Run(mode, func(t *testing.T) {
			text := strings.Repeat("some text ", 400_000)
			store, path := imported(t, text)
			dir := shortDir(t)
			cmd := process("serve", "--store", store, "--socket-path", dir+"/s", "--sandbox", mode, "--once")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			front, g := guest(t, dir+"/s")
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			for _, line := range []string{"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "CapEff:\t0000000000000000\n"} {
				if has := bytes.Contains(status, []byte(line)); !has && mode != "none" {
					t.Errorf("no %q in its status: %s", line, status)
				}
			}
			entry, err := g.Call(vt.FuseLookup, 1, append([]byte(filepath.Base(path)), 0), 128)
			if err != nil {
				t.Fatal(err)
			}
			node := binary.NativeEndian.Uint64(entry)
			// The blobs move out of the store, with a symlink in their place.
			outside := filepath.Join(t.TempDir(), "blobs")
			if err := os.Rename(filepath.Join(store, "blobs"), outside); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(outside, filepath.Join(store, "blobs")); err != nil {
				t.Fatal(err)
			}
			in := make([]byte, 40)
			binary.NativeEndian.PutUint32(in[16:], 4096)
			b, err := g.Call(vt.FuseRead, node, in, 4096)
			if mode == "none" && (err != nil || string(b) != text[:4096]) {
				t.Errorf("without a sandbox: %.20q, %v", b, err)
			}
			if mode != "none" && err == nil {
				t.Errorf("it reads outside of its store: %.20q", b)
			}
			// Back again: it serves.
			if err := os.Remove(filepath.Join(store, "blobs")); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(outside, filepath.Join(store, "blobs")); err != nil {
				t.Fatal(err)
			}
			if b, err := g.Call(vt.FuseRead, node, in, 4096); err != nil || string(b) != text[:4096] {
				t.Errorf("%.20q, %v", b, err)
			}
			front.Close()
			if err := cmd.Wait(); err != nil {
				t.Errorf("%v: %s", err, &stderr)
			}
			if mode != "none" && !strings.Contains(stderr.String(), "msg=sandbox") {
				t.Errorf("it does not say what it did: %s", &stderr)
			}
		})
	}
}
