package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a := write("a", "CONFIG_FUSE_FS=y\nCONFIG_PVH=y\nCONFIG_X=1\n")
	b := write("b", "CONFIG_FUSE_FS=m\nCONFIG_X=2\nCONFIG_SECCOMP=y\n")
	for _, tt := range []struct {
		args string
		code int
		has  string
	}{
		{"fragment", 0, "nixos "},
		{"fragment virtiofs --arch amd64", 0, "# required: the store's file system\nCONFIG_VIRTIO_FS=y\n"},
		{"fragment virtiofs --arch arm64", 0, "CONFIG_SERIAL_AMBA_PL011=y\n"},
		{"fragment systemd --nix", 0, "  RT_GROUP_SCHED = option no; #"},
		{"fragment virtiofs --nix", 0, "\"64BIT\" = yes;"},
		{"fragment debug --nix", 0, "PANIC_TIMEOUT = option (freeform \"-1\");"},
		{"fragment --nix", 2, "needs the names"},
		{"fragment nixos --nix --json", 2, "choose one"},
		{"fragment virtio", 2, `no fragment "virtio"`},
		{"fragment virtiofs --arch mips", 2, "mips"},
		{"explain virtio_fs", 0, "CONFIG_VIRTIO_FS: required for virtiofs, built in or as a module: the store's file system"},
		{"explain CONFIG_NONE", 2, "no fragment asks for CONFIG_NONE"},
		{"diff " + a + " " + a, 0, ""},
		{"diff --arch amd64 " + a + " " + b, 1, "  CONFIG_FUSE_FS  y -> m  virtio-fs speaks FUSE\n- CONFIG_PVH      y       "},
		{"diff " + a + " " + b, 1, "\n+ CONFIG_SECCOMP  y       SystemCallFilter="},
		{"diff " + a + " " + b, 1, "  CONFIG_X        1 -> 2  \n"},
		{"diff --fragment virtiofs " + a + " " + b, 1, "  CONFIG_FUSE_FS  y -> m  virtio-fs speaks FUSE\n"},
		{"diff " + a + " " + dir + "/none", 1, "none"},
		{"check --fragment nixos " + a, 1, "required"},
		{"check --fragment none " + a, 2, "no fragment"},
	} {
		code, out, errOut := run(t, strings.Fields(tt.args)...)
		if code != tt.code || !strings.Contains(out+errOut, tt.has) {
			t.Errorf("%s: exit %d, want %d with %q\n%s%s", tt.args, code, tt.code, tt.has, out, errOut)
		}
	}
	for _, args := range []string{"fragment --json", "fragment nixos --json", "explain --json seccomp", "diff --json " + a + " " + b} {
		_, out, _ := run(t, strings.Fields(args)...)
		if !json.Valid([]byte(out)) {
			t.Errorf("%s: not JSON: %s", args, out)
		}
	}
}
