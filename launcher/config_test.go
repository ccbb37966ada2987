package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// configured reads text as a configuration file after args on the command line.
func configured(text string, args ...string) (*machineOptions, error) {
	var o machineOptions
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	o.addFlags(f)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	return &o, applyConfig([]byte(text), f)
}

func TestConfig(t *testing.T) {
	o, err := configured("# comment\ncpus: 4\nmemory: 2G\nballoon: true\nshare:\n  - a=/x\n  - b=/y,rw\ndisk: one.img\n", "--memory", "1G")
	if err != nil {
		t.Fatal(err)
	}
	if o.cpus != 4 || o.memory != "1G" || !o.balloon || !slices.Equal(o.shares, []string{"a=/x", "b=/y,rw"}) || !slices.Equal(o.disks, []string{"one.img"}) {
		t.Errorf("%+v", o)
	}
	if _, err := configured(""); err != nil {
		t.Errorf("an empty file: %v", err)
	}
	for text, part := range map[string]string{
		"cpu: 2":                "line 1: cpu: there is no such flag",
		"memory: 1G\ncpus: two": "line 2: cpus: ",
		"cpus: [1, 2]":          "want one value, not a list",
		"cpus:\n  a: 1":         "want a value",
		"- cpus":                "want a mapping",
		"config: x":             "no such flag",
		"cpus: [":               "[1:7]",
	} {
		if _, err := configured(text); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q: %v, want %q", text, err, part)
		}
	}
	// What "launcher config" prints is a file that changes nothing.
	code, out, errOut := run(t, "config")
	if code != 0 || errOut != "" {
		t.Fatalf("config: exit %d, %s", code, errOut)
	}
	if _, err := configured(out); err != nil {
		t.Errorf("the printed file: %v", err)
	}
	// With its comments removed each key is a flag.
	for line := range strings.Lines(out) {
		if key, _, ok := strings.Cut(strings.TrimPrefix(line, "#"), ":"); ok && strings.HasPrefix(line, "#") && !strings.HasPrefix(line, "# ") {
			var o machineOptions
			f := pflag.NewFlagSet("", pflag.ContinueOnError)
			o.addFlags(f)
			if f.Lookup(key) == nil {
				t.Errorf("%s is no flag", key)
			}
		}
	}
}

// TestConfigFile holds where the file is found, and that flags have the last
// word.
func TestConfigFile(t *testing.T) {
	if !amd64() {
		t.Skip("SKIP: the kernel image of this test is for amd64")
	}
	dir := host(t)
	home := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", home)
	if err := os.MkdirAll(filepath.Join(home, "storeboot"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "storeboot", "launcher.yaml")
	if err := os.WriteFile(file, []byte("kernel: "+filepath.Join(dir, "vmlinuz")+"\ncpus: 3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := run(t, "run", "--dry-run", prog); code != 0 || !strings.Contains(out, "-smp 3") {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	if code, out, _ := run(t, "run", "--dry-run", "--cpus", "2", prog); code != 0 || !strings.Contains(out, "-smp 2") {
		t.Errorf("with a flag: exit %d: %s", code, out)
	}
	if err := os.WriteFile(file, []byte("cpus: 3\nno-such: 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := run(t, "run", "--dry-run", prog); code != 2 || !strings.Contains(errOut, "launcher.yaml: line 2: no-such") {
		t.Errorf("a wrong key: exit %d, %s", code, errOut)
	}
}

func FuzzConfig(f *testing.F) {
	for _, s := range []string{"cpus: 4\nshare: [a=/x]", "a: &x [*x]", "cpus: {a: b}", "- x", "? a\n: b", "cpus: |\n  2", "\x00", "cpus: !!int 2"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, text string) { _, _ = configured(text) })
}
