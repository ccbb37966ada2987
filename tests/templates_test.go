package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// cloudKernel is a kernel whose modules are installed.
func cloudKernel(t *testing.T) string {
	t.Helper()
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	return kernels[0]
}

// TestSizeBudgets holds what the built-in templates may take, compressed and
// without modules, which are the kernel's. More is to be a decision: the sizes
// are some percent above those of when they were decided on.
func TestSizeBudgets(t *testing.T) {
	w := newWorld(t)
	kernel := cloudKernel(t)
	for name, budget := range map[string]string{"store": "1300K", "nixos": "1300K", "shell": "5000K"} {
		args := []string{"build", "--template", name, "--no-modules", "--no-check", "--kernel", kernel, "--max-size", budget, "-o", filepath.Join(t.TempDir(), name)}
		if r := w.run(nil, "mkinitrd", args...); r.code != 0 {
			t.Errorf("%s: %s", name, r)
		}
	}
}

// TestTemplates boots the built-in templates that no other test boots, with
// what only they have: a binary of this machine and its libraries, several
// segments, hooks, the exit status of an image that says itself what to run.
func TestTemplates(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	kernel := cloudKernel(t)
	prog := filepath.Join(w.bin, "guestprog")
	hooks := filepath.Join(t.TempDir(), "hooks.yaml")
	text := `include: [vmtest]
hooks:
  before_store:
    - [/bin/sh, -c, "echo early >/tmp/early; for x in /nix/store/*prog; do test ! -e $x || exit 1; done"]
    - {argv: [/bin/false], optional: true}
  after_store:
    - [/bin/sh, -c, "test -e /tmp/early || exit 1; for x in /nix/store/*prog; do test -e $x || exit 1; done"]
commands: [sh, "false"]
binaries: [cat]
run: {argv: [/test/binary, exit, "9"]}
`
	if err := os.WriteFile(hooks, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	failing := filepath.Join(t.TempDir(), "failing.yaml")
	if err := os.WriteFile(failing, []byte("extends: vmtest\ncommands: [sh]\nhooks: {before_store: [[/bin/sh, -c, 'exit 7']]}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w.addGuestProg()
	tests := []struct {
		name    string
		build   []string
		cmdline string
		code    int
		has     string
	}{
		// Without arguments, the program says so and fails.
		{"vmtest", []string{"--template", "vmtest", "--set", "binary=" + prog}, "quiet", 1, "guestprog: nothing to do"},
		{"vmtest with libraries", []string{"--template", "vmtest", "--set", "binary=/usr/bin/hostname", "--compression", "none"}, "quiet", 0, ""},
		{"hooks", []string{"--template", hooks, "--set", "binary=" + prog}, "quiet", 9, ""},
		{"failing hook", []string{"--template", failing, "--set", "binary=" + prog}, "quiet", 1, "hook /bin/sh: exit status 7"},
		{"rescue in segments", []string{"--template", "rescue", "--segment-size", "2M", "--embed-manifest"}, "storeboot.find", 0, "guestprog/bin/guestprog"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			initrd := filepath.Join(t.TempDir(), "initrd")
			w.must("mkinitrd", append([]string{"build", "--kernel", kernel, "-o", initrd}, tt.build...)...)
			r := w.run([]string{"CH_CMDLINE=" + tt.cmdline, "CH_MEM_SIZE=512M"}, "launcher", "--kernel", kernel, "--initrd", initrd)
			if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.has) {
				t.Errorf("want exit %d and %q: %s", tt.code, tt.has, r)
			}
		})
	}
}
