package templates

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const full = `# everything
description: for a test
mode: run
modules:
  - virtiofs
  - virtio_console?
  - nvme  io_queue_depth=64 x=y
  - "fs-ext4?"
commands: [sh, true, "ls"]
shell: [/bin/sh, -i]
directories:
  - path: /data
    mode: 0700
  - path: /more
files:
  - source: a file
    path: /etc/a
  - {source: b, path: /etc/b, mode: 0o4755}
symlinks:
  - path: /bin/bash
    target: sh
mounts:
  - source: tmpfs
    target: /data
    type: tmpfs
    options: nosuid,size=10%
`

func TestParse(t *testing.T) {
	got, err := Parse("full.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o4755)
	want := &Template{
		Name: "full.yaml", Description: "for a test", Mode: "run",
		Modules:     []Module{{"virtiofs", false, ""}, {"virtio_console", true, ""}, {"nvme", false, "io_queue_depth=64 x=y"}, {"fs-ext4", true, ""}},
		Commands:    []string{"sh", "true", "ls"},
		Shell:       []string{"/bin/sh", "-i"},
		Directories: []Directory{{"/data", 0o700}, {"/more", 0o755}},
		Files:       []File{{"a file", "/etc/a", nil}, {"b", "/etc/b", &mode}},
		Symlinks:    []Symlink{{"/bin/bash", "sh"}},
		Mounts:      []Mount{{"tmpfs", "/data", "tmpfs", "nosuid,size=10%"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestErrors(t *testing.T) {
	tests := []struct{ name, text, err string }{
		{"unknown key", "description: x\nmodlues: [fuse]\n", `t.yaml:2:1: unknown key "modlues"; did you mean "modules"?`},
		{"far key", "description: x\ncolour: red\n", `t.yaml:2:1: unknown key "colour"`},
		{"unknown key in a list", "files:\n  - source: x\n    dst: y\n", `t.yaml:3:5: unknown key "dst"`},
		{"repeated key", "mode: run\nmode: find\n", "t.yaml:2:1:"},
		{"no value", "modules:\n", "has no value"},
		{"not a list", "modules: fuse\n", "t.yaml:1:10: modules: want a list"},
		{"not a mapping", "- fuse\n", "template: want a mapping"},
		{"file is text", "files: [x]\n", "t.yaml:1:9: file: want a mapping"},
		{"empty item", "modules:\n  -\n", "empty"},
		{"module is a mapping", "modules:\n  - a: b\n", "t.yaml:2:6: module: want text"},
		{"module leads out", "modules: [../x]\n", "t.yaml:1:11: module"},
		{"command with a slash", "commands: [a/b]\n", `"a/b"`},
		{"mode", "mode: fnid\n", `t.yaml:1:7: mode "fnid": want find, shell, run`},
		{"no source", "files:\n  - path: /x\n", `t.yaml:2:9: file lacks the key "source"`},
		{"relative path", "files:\n  - {source: x, path: etc/x}\n", `path "etc/x": want an absolute path`},
		{"path leads out", "directories:\n  - path: /a/../../b\n", "absolute path"},
		{"the root", "directories:\n  - path: /\n", "absolute path"},
		{"permissions", "directories:\n  - {path: /a, mode: 0999}\n", `mode "0999": want octal`},
		{"large permissions", "directories:\n  - {path: /a, mode: 17777}\n", `mode "17777": want octal`},
		{"shell", "shell: [sh]\n", "absolute path of a program"},
		{"empty shell", "shell: []\n", "absolute path of a program"},
		{"extends", "extends: stroe\n", `did you mean "store"?`},
		{"empty", "", "template is empty"},
		{"comment", "# nothing\n", "template is empty"},
		{"two documents", "mode: run\n---\nmode: find\n", "t.yaml:3:5: a second document"},
		{"syntax", "modules: [fuse\n", "t.yaml:1:"},
		{"tab", "modules:\n\t- fuse\n", "t.yaml:2:"},
		{"alias", "modules: &m [fuse]\ncommands: *m\n", "anchors, aliases and tags"},
		{"tag", "mode: !!str run\n", "anchors, aliases and tags"},
		{"merge", "<<: {mode: run}\n", "unknown key"},
		{"NUL", "description: \"a\\0b\"\n", "NUL"},
		{"deep brackets", "modules: " + strings.Repeat("[", 10000), "nests too deep"},
		{"deep list", strings.Repeat("- ", 10000), "nests too deep"},
		{"large", strings.Repeat("#", maxSize+1), "larger than 64 KiB"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("t.yaml", []byte(tt.text))
			if err == nil {
				t.Fatalf("no error, got %+v", got)
			}
			if s := err.Error(); !strings.Contains(s, tt.err) || !strings.HasPrefix(s, "t.yaml") || strings.Contains(s, "\n") {
				t.Errorf("error %q, want %q in one line", s, tt.err)
			}
		})
	}
}

func TestBuiltins(t *testing.T) {
	if got := Builtins(); !slices.Equal(got, []string{"shell", "store"}) {
		t.Errorf("built-in templates %q", got)
	}
	for _, name := range Builtins() {
		tmpl, err := Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		if tmpl.Description == "" {
			t.Errorf("%s has no description", name)
		}
		for _, m := range []string{"virtio_pci", "virtiofs"} {
			if !slices.Contains(tmpl.Modules, Module{Name: m}) {
				t.Errorf("%s does not require the module %s", name, m)
			}
		}
	}
	shell, err := Builtin("shell")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"sh", "ls", "cat", "find", "mount", "ps", "dmesg", "wc", "grep", "false", "true", "yes"} {
		if !slices.Contains(shell.Commands, c) {
			t.Errorf("shell lacks the command %s", c)
		}
	}
	if _, err := Builtin("stroe"); err == nil || !strings.Contains(err.Error(), `did you mean "store"`) || !strings.Contains(err.Error(), "shell") {
		t.Errorf("unknown name: %v", err)
	}
}

func TestExtends(t *testing.T) {
	got, err := Parse("t.yaml", []byte("extends: shell\nmodules: [virtiofs, nvme]\ncommands: [ls, strace]\n"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, c := range got.Commands {
		if c == "ls" {
			n++
		}
	}
	if n != 1 || !slices.Contains(got.Commands, "strace") || !slices.Contains(got.Modules, Module{Name: "nvme"}) || got.Modules[0].Name != "virtio_pci" {
		t.Errorf("got %+v", got)
	}
	if got.Mode != "shell" || !slices.Equal(got.Shell, []string{"/bin/sh"}) || got.Description != "" {
		t.Errorf("got %+v", got)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mine.yaml")
	if err := os.WriteFile(file, []byte("files:\n  - {source: motd, path: /etc/motd}\n  - {source: /etc/os-release, path: /etc/os-release}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	got, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.Files[0].Source != filepath.Join(dir, "motd") || got.Files[1].Source != "/etc/os-release" {
		t.Errorf("sources %+v", got.Files)
	}
	if _, err := Load("store"); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{filepath.Join(dir, "none.yaml"), "./none", dir + "/"} {
		if _, err := Load(ref); err == nil || !strings.Contains(err.Error(), filepath.Base(ref)) {
			t.Errorf("%s: error %v", ref, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	for _, name := range Builtins() {
		data, err := BuiltinSource(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	if _, err := Parse("seed", []byte(full)); err != nil {
		f.Fatalf("a seed does not reach the code: %v", err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Parse("t", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "t:") || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q", err)
			}
			return
		}
		for _, file := range got.Files {
			if !cleanAbs(file.Path) {
				t.Fatalf("path %q", file.Path)
			}
		}
	})
}
