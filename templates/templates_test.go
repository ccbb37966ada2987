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

// everything uses each key that full does not.
const everything = `
include: [shell]
parameters:
  - {name: who, default: world}
  - name: empty
    default: ""
modules:
  - {name: ext4, optional: true, available: true}
  - drivers/net/
firmware: [rtl_nic/a.fw]
microcode: [intel, "amd?"]
commands: [example.org/cmd/x]
programs:
  - example.org/cmd/y
  - {import: example.org/cmd/z, path: /sbin/z}
binaries:
  - ip?
  - ./tool
  - /usr/bin/strace
  - {source: x, path: /opt/x, dlopen: none, optional: true}
nss: [files]
run: {argv: [/bin/x, "hello ${who}", "$${who}"], env: ["A=${empty}"], dir: /tmp}
max_size: 8M
directories:
  - {path: /data, owner: "1000:100"}
files:
  - {text: "a\nb\n", path: /etc/text}
  - path: /etc/block
    text: |
      hello ${who}
      again
trees:
  - {source: root, path: /, modes: keep}
symlinks:
  - {path: /a, target: b, owner: 1:2}
devices:
  - {path: /dev/kmsg, type: char, major: 1, minor: 11}
  - {path: /dev/pipe, type: fifo, mode: 0644}
archives:
  - base.cpio
  - {source: acpi.cpio, early: true}
hooks:
  before_store: [[/bin/true], [/bin/x, "${who}"]]
  after_store:
    - {argv: [/bin/y], optional: true}
`

// bare removes the positions, which have a test of their own.
func bare(t *Template) *Template {
	for v := range reflect.ValueOf(t).Elem().NumField() {
		clear := func(x reflect.Value) {
			if at := x.FieldByName("At"); at.IsValid() {
				at.SetZero()
			}
		}
		switch f := reflect.ValueOf(t).Elem().Field(v); {
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			for i := range f.Len() {
				clear(f.Index(i))
			}
		case f.Kind() == reflect.Pointer && !f.IsNil():
			clear(f.Elem())
		}
	}
	for _, hooks := range [][]Hook{t.Hooks.BeforeStore, t.Hooks.AfterStore} {
		for i := range hooks {
			hooks[i].At = Position{}
		}
	}
	t.MaxSizeAt = Position{}
	return t
}

func parse(t *testing.T, text string) *Template {
	t.Helper()
	got, err := Parse("full.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestParse(t *testing.T) {
	mode := uint32(0o4755)
	want := &Template{
		Name: "full.yaml", Description: "for a test", Mode: "run",
		Modules: []Module{
			{Name: "virtiofs"}, {Name: "virtio_console", Optional: true},
			{Name: "nvme", Options: "io_queue_depth=64 x=y"}, {Name: "fs-ext4", Optional: true},
		},
		Commands:    []Command{{Name: "sh"}, {Name: "true"}, {Name: "ls"}},
		Shell:       []string{"/bin/sh", "-i"},
		Directories: []Directory{{Path: "/data", Mode: 0o700}, {Path: "/more", Mode: 0o755}},
		Files:       []File{{Source: "a file", Path: "/etc/a"}, {Source: "b", Path: "/etc/b", Mode: &mode}},
		Symlinks:    []Symlink{{Path: "/bin/bash", Target: "sh"}},
		Mounts:      []Mount{{Source: "tmpfs", Target: "/data", Type: "tmpfs", Options: "nosuid,size=10%"}},
	}
	if got := bare(parse(t, full)); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestParseEverything(t *testing.T) {
	got := bare(parse(t, everything))
	shell, err := Builtin("shell")
	if err != nil {
		t.Fatal(err)
	}
	bare(shell)
	text, block, none, world := "a\nb\n", "hello world\nagain\n", "", "world"
	want := &Template{
		Name: "full.yaml", Include: []string{"shell"}, Mode: "shell", Shell: []string{"/bin/sh"},
		Parameters: []Parameter{{Name: "who", Default: &world}, {Name: "empty", Default: &none}},
		Modules:    append(shell.Modules, Module{Name: "ext4", Optional: true, Available: true}, Module{Name: "drivers/net/", Available: true}),
		Firmware:   []Firmware{{Name: "rtl_nic/a.fw"}},
		Microcode:  []Microcode{{Vendor: "intel"}, {Vendor: "amd", Optional: true}},
		Commands:   append(shell.Commands, Command{Name: "x", Import: "example.org/cmd/x"}),
		Programs:   []Program{{Import: "example.org/cmd/y", Path: "/bin/y"}, {Import: "example.org/cmd/z", Path: "/sbin/z"}},
		Binaries: []Binary{
			{Source: "ip", Path: "/bin/ip", Optional: true}, {Source: "./tool", Path: "/bin/tool"},
			{Source: "/usr/bin/strace", Path: "/usr/bin/strace"}, {Source: "x", Path: "/opt/x", Dlopen: "none", Optional: true},
		},
		NSS:         []Service{{Name: "files"}},
		Run:         &Run{Argv: []string{"/bin/x", "hello world", "${who}"}, Env: []string{"A="}, Dir: "/tmp"},
		MaxSize:     8 << 20,
		Directories: []Directory{{Path: "/data", Mode: 0o755, Owner: Owner{1000, 100}}},
		Files:       []File{{Text: &text, Path: "/etc/text"}, {Text: &block, Path: "/etc/block"}},
		Trees:       []Tree{{Source: "root", Path: "/", KeepModes: true}},
		Symlinks:    []Symlink{{Path: "/a", Target: "b", Owner: Owner{1, 2}}},
		Devices:     []Device{{Path: "/dev/kmsg", Type: "char", Major: 1, Minor: 11, Mode: 0o600}, {Path: "/dev/pipe", Type: "fifo", Mode: 0o644}},
		Archives:    []Archive{{Source: "base.cpio"}, {Source: "acpi.cpio", Early: true}},
		Hooks: Hooks{
			BeforeStore: []Hook{{Argv: []string{"/bin/true"}}, {Argv: []string{"/bin/x", "world"}}},
			AfterStore:  []Hook{{Argv: []string{"/bin/y"}, Optional: true}},
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestPositions holds that an item knows its line and column, in each form.
func TestPositions(t *testing.T) {
	got := parse(t, full+"trees:\n  - {source: a, path: /b}\nmax_size: 1K\n")
	for _, tt := range []struct {
		at   Position
		want string
	}{
		{got.Modules[1].At, "full.yaml:6:5"},
		{got.Commands[1].At, "full.yaml:9:16"},
		{got.Directories[0].At, "full.yaml:12:5"},
		{got.Files[1].At, "full.yaml:18:5"},
		{got.Trees[0].At, "full.yaml:28:5"},
		{got.MaxSizeAt, "full.yaml:29:11"},
	} {
		if tt.at.String() != tt.want {
			t.Errorf("position %s, want %s", tt.at, tt.want)
		}
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
		{"module without a name", "modules:\n  - optional: true\n", `lacks the key "name"`},
		{"module is a list", "modules:\n  - [a]\n", "t.yaml:2:5: module: want text"},
		{"module directory with parameters", "modules: [drivers/net/ a=b]\n", "has no parameters"},
		{"module directory leads out", "modules: [../net/]\n", "directory below kernel/"},
		{"file without source", "files:\n  - {path: /x}\n", `t.yaml:2:5: file lacks the key "source" (or "text")`},
		{"file with two", "files:\n  - {path: /x, source: a, text: b}\n", "has both"},
		{"device without numbers", "devices:\n  - {path: /x, type: char, major: 1}\n", `"minor"`},
		{"fifo with numbers", "devices:\n  - {path: /x, type: fifo, major: 1}\n", "a fifo has no numbers"},
		{"device type", "devices:\n  - {path: /x, type: chr}\n", "want char, block, fifo"},
		{"large number", "devices:\n  - {path: /x, type: char, major: 1, minor: 9999999}\n", "want a number, 0 to"},
		{"modes", "trees:\n  - {source: x, path: /x, modes: all}\n", `modes "all"`},
		{"owner", "directories:\n  - {path: /x, owner: root}\n", `owner "root": want UID:GID`},
		{"firmware leads out", "firmware: [../x]\n", "below the firmware directory"},
		{"microcode", "microcode: [via]\n", "want intel, amd"},
		{"program is no path", "programs: [x]\n", "import path"},
		{"program with a version", "programs: [example.org/x@v1]\n", "import path"},
		{"command of the standard library", "commands: [cmd/go]\n", "import path"},
		{"dlopen", "binaries: [{source: x, dlopen: all}]\n", "want required, recommended, suggested, none"},
		{"binary is a directory", "binaries: [/usr/]\n", "want a name or a path"},
		{"truth", "binaries: [{source: x, optional: maybe}]\n", "want true or false"},
		{"run without argv", "run: {env: [A=b]}\n", `lacks the key "argv"`},
		{"run relative", "run: {argv: [x]}\n", "absolute path"},
		{"run env", "run: {argv: [/x], env: [A]}\n", "KEY=VALUE"},
		{"hook", "hooks: {before_store: [[x]]}\n", "t.yaml:1:24: hook: want a list"},
		{"hook is text", "hooks: {before_store: [/bin/x]}\n", "want a mapping"},
		{"hooks key", "hooks: {before: []}\n", `unknown key "before"`},
		{"size", "max_size: 8MB\n", `max_size "8MB": want a number of bytes`},
		{"no size", "max_size: 0\n", "want a number"},
		{"parameter without value", "description: x\nparameters:\n  - {name: a, description: the a}\n", `t.yaml:3:5: parameter "a" (the a) has no value: give --set a=VALUE`},
		{"parameter twice", "parameters: [{name: a, default: b}, {name: a, default: c}]\n", "second time"},
		{"unknown parameter", "parameters: [{name: greeting, default: x}]\ndescription: ${greting}\n", `t.yaml:2:14: unknown parameter ${greting}: list it under parameters; $${ stands for itself; did you mean ${greeting}?`},
		{"open parameter", "description: ${a\n", `"${" without "}"`},
		{"empty by a parameter", "parameters: [{name: a, default: ''}]\nmode: ${a}\n", "mode is empty"},
		{"include of a file", "include: [./x.yaml]\n", "t.yaml:1:11: a file is included"},
		{"include of nothing", "include: [stroe]\n", `t.yaml:1:11: unknown template "stroe"`},
		{"extends a file", "extends: ./x.yaml\n", "t.yaml:1:10: extends: want a built-in template"},
		{"module leads out", "modules: [../x]\n", "t.yaml:1:11: module"},
		{"command with a slash", "commands: [a/b]\n", `"a/b"`},
		{"mode", "mode: fnid\n", `t.yaml:1:7: mode "fnid": want find, shell, run`},
		{"no source", "files:\n  - path: /x\n", `file lacks the key "source"`},
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
	if got := Builtins(); !slices.Equal(got, []string{"net", "nixos", "rescue", "shell", "store", "vmtest"}) {
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
			if !slices.Contains(bare(tmpl).Modules, Module{Name: m}) {
				t.Errorf("%s does not require the module %s", name, m)
			}
		}
	}
	shell, err := Builtin("shell")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"sh", "ls", "cat", "find", "mount", "ps", "dmesg", "wc", "grep", "false", "true", "yes"} {
		if !slices.Contains(bare(shell).Commands, Command{Name: c}) {
			t.Errorf("shell lacks the command %s", c)
		}
	}
	if _, err := Builtin("stroe"); err == nil || !strings.Contains(err.Error(), `did you mean "store"`) || !strings.Contains(err.Error(), "shell") {
		t.Errorf("unknown name: %v", err)
	}
}

func TestExtends(t *testing.T) {
	got := bare(parse(t, "extends: shell\nmodules: [virtiofs, nvme]\ncommands: [ls, strace]\n"))
	n := 0
	for _, c := range got.Commands {
		if c.Name == "ls" {
			n++
		}
	}
	if n != 1 || !slices.Contains(got.Commands, Command{Name: "strace"}) || !slices.Contains(got.Modules, Module{Name: "nvme"}) || got.Modules[0].Name != "virtio_pci" {
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
	got, err := Load(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Files[0].Source != filepath.Join(dir, "motd") || got.Files[1].Source != "/etc/os-release" {
		t.Errorf("sources %+v", got.Files)
	}
	if _, err := Load("store", nil); err != nil {
		t.Error(err)
	}
	for _, ref := range []string{filepath.Join(dir, "none.yaml"), "./none", dir + "/"} {
		if _, err := Load(ref, nil); err == nil || !strings.Contains(err.Error(), filepath.Base(ref)) {
			t.Errorf("%s: error %v", ref, err)
		}
	}
}

// TestInclude loads files that include each other.
func TestInclude(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	write("parts/net.yaml", "parameters: [{name: nic, default: virtio_net}]\nmodules: [\"${nic}\"]\nfiles: [{source: a, path: /a}]\nmode: find\n")
	main := write("main.yaml", "extends: store\ninclude: [parts/net.yaml]\nmode: run\nparameters: [{name: prog}]\nbinaries: [{source: \"${prog}\", path: /x}]\n")
	got, err := Load(main, map[string]string{"nic": "e1000", "prog": "here/x"})
	if err != nil {
		t.Fatal(err)
	}
	if got.Mode != "run" || !slices.Contains(bare(got).Modules, Module{Name: "e1000"}) || got.Modules[0].Name != "virtio_pci" ||
		got.Files[0].Source != filepath.Join(dir, "parts/a") || got.Binaries[0].Source != "here/x" {
		t.Errorf("got %+v", got)
	}
	write("loop.yaml", "include: [./loop2.yaml]\n")
	write("wrong.yaml", "mode: x\n")
	for _, tt := range []struct {
		ref  string
		set  map[string]string
		errs []string
	}{
		{main, nil, []string{"main.yaml:4:", "--set prog=VALUE"}},
		{main, map[string]string{"prog": "x", "nci": "y"}, []string{`unknown parameter "nci": it has nic, prog`}},
		{"store", map[string]string{"a": "b"}, []string{"template store: unknown parameter"}},
		{"vmtest", nil, []string{"vmtest:4:5", "--set binary=VALUE"}},
		{write("loop2.yaml", "include: [./loop.yaml]\n"), nil, []string{"loop2.yaml:1:11: ", "loop.yaml:1:11: ", "includes itself"}},
		{write("none.yaml", "mode: run\ninclude:\n  - ./not-there.yaml\n"), nil, []string{"none.yaml:3:5: ", "not-there.yaml"}},
		{write("bad.yaml", "include: [wrong.yaml]\n"), nil, []string{"bad.yaml:1:11: ", "wrong.yaml:1:7: "}},
		{write("many.yaml", "include: ["+strings.Repeat("store, ", 99)+"]\n"), nil, []string{"more than 64"}},
	} {
		_, err := Load(tt.ref, tt.set)
		for _, want := range tt.errs {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", tt.ref, err, want)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte(everything))
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
