package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/internal/cli"
	"storeboot/kernelconfig/fragment"
)

func run(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(context.Background(), newCommand(), args, cli.Streams{In: strings.NewReader(""), Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// full is a configuration with every option of the fragment built in, but for
// those that change overrides.
func full(change map[string]string) string {
	var b strings.Builder
	b.WriteString("# Linux kernel configuration\nCONFIG_MODULES=y\n")
	virtiofs, err := fragment.Get(fragment.AMD64, "virtiofs")
	if err != nil {
		panic(err)
	}
	for _, o := range virtiofs.Options {
		v, ok := change[o.Name]
		switch {
		case !ok:
			b.WriteString("CONFIG_" + o.Name + "=y\n")
		case v == "n":
			b.WriteString("# CONFIG_" + o.Name + " is not set\n")
		case v != "":
			b.WriteString("CONFIG_" + o.Name + "=" + v + "\n")
		}
	}
	for k, v := range change {
		if k == "MODULES" {
			b.WriteString("CONFIG_MODULES=" + v + "\n")
		}
	}
	return b.String()
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		config string
		code   int
		has    string // line of the output
	}{
		{"all built in", full(nil), 0, "has all that our guests require; 0 of"},
		{"module that may be one", full(map[string]string{"VIRTIO_FS": "m"}), 0, "module  required  CONFIG_VIRTIO_FS  "},
		{"module without module support", full(map[string]string{"VIRTIO_FS": "m", "MODULES": "n"}), 1, "too-late  required  CONFIG_VIRTIO_FS  "},
		{"module that has to be built in", full(map[string]string{"TMPFS": "m"}), 1, "too-late  required  CONFIG_TMPFS  "},
		{"switched off", full(map[string]string{"FUSE_FS": "n"}), 1, "missing  required  CONFIG_FUSE_FS  "},
		{"not named", full(map[string]string{"FUSE_FS": ""}), 1, "missing  required  CONFIG_FUSE_FS  "},
		{"recommended", full(map[string]string{"KVM_GUEST": "n"}), 0, "missing  recommended  CONFIG_KVM_GUEST  "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(tt.config), 0o644); err != nil {
				t.Fatal(err)
			}
			code, out, errOut := run(t, "check", file)
			if code != tt.code || !strings.Contains(out, tt.has) {
				t.Errorf("exit %d, want %d, with %q in\n%s%s", code, tt.code, tt.has, out, errOut)
			}
			code, out, _ = run(t, "check", "--json", file)
			var r checkResult
			if err := json.Unmarshal([]byte(out), &r); err != nil || code != tt.code || r.OK != (tt.code == 0) {
				t.Errorf("json: exit %d, ok %v, %v", code, r.OK, err)
			}
		})
	}
}

func TestCheckFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, _ = w.Write([]byte(full(nil)))
	_ = w.Close()
	tests := []struct {
		name, path string
		code       int
		err        string
	}{
		{"gzip", write("config.gz", z.Bytes()), 0, ""},
		{"cut gzip", write("cut.gz", z.Bytes()[:z.Len()/2]), 1, "unexpected EOF"},
		{"not a configuration", write("passwd", []byte("# users\nroot:x:0:0\n")), 1, `line 2: "root:x:0:0" is no option`},
		{"empty", write("empty", nil), 1, "names no option"},
		{"kernel without configuration", write("vmlinuz", []byte("MZ not a kernel")), 1, "not a kernel image"},
		{"directory", dir, 1, "is a directory"},
		{"missing", filepath.Join(dir, "none"), 1, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := run(t, "check", tt.path)
			if code != tt.code || !strings.Contains(errOut, tt.err) || strings.Count(errOut, "\n") > 1 {
				t.Errorf("exit %d, want %d; stderr %q, want %q; stdout %q", code, tt.code, errOut, tt.err, out)
			}
		})
	}
}

// TestInstalled checks the kernel that the VM tests boot, under both its names.
func TestInstalled(t *testing.T) {
	configs, _ := filepath.Glob("/boot/config-*-cloud-*")
	if len(configs) == 0 {
		t.Skip("SKIP: no cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	}
	for _, c := range configs {
		for _, f := range []string{c, strings.Replace(c, "config-", "vmlinuz-", 1)} {
			if code, out, errOut := run(t, "check", f); code != 0 || !strings.Contains(out, "has all") {
				t.Errorf("%s: exit %d\n%s%s", f, code, out, errOut)
			}
		}
	}
}

// TestCheckArch holds that a kernel is held to the options of its architecture.
func TestCheckArch(t *testing.T) {
	path := filepath.Join(t.TempDir(), ".config")
	if err := os.WriteFile(path, []byte("CONFIG_ARM64=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := run(t, "check", path); !strings.Contains(out, "CONFIG_ARM_PSCI_FW") || strings.Contains(out, "CONFIG_KVM_GUEST") {
		t.Errorf("arm64: %s", out)
	}
	if _, out, _ := run(t, "check", "--arch", "amd64", path); strings.Contains(out, "CONFIG_ARM_PSCI_FW") {
		t.Errorf("amd64 asked for: %s", out)
	}
	other := path + "-2"
	if err := os.WriteFile(other, []byte("CONFIG_ARM64=y\nCONFIG_ARM_PSCI_FW=y\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, out, _ := run(t, "diff", path, other, "-f", "virtiofs"); !strings.Contains(out, "+ CONFIG_ARM_PSCI_FW") {
		t.Errorf("diff: %s", out)
	}
}
