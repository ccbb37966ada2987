package main

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/cli"
	"storeboot/templates"
)

// world has a machine's parts: a kernel, its modules, a program for init.
type world struct {
	t   testing.TB
	dir string
}

const release = "6.1.0-9-test"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t, t.TempDir()}
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Phentsize: 56}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	w.write("init", b.String())
	w.write("boot/vmlinuz", kernel64(release))
	mods := "modules/" + release
	dep := ""
	for _, m := range []string{"virtio_pci", "virtiofs", "virtio_console"} {
		dep += m + ".ko:\n"
		w.write(mods+"/"+m+".ko", "\x7fELF"+m)
	}
	w.write(mods+"/modules.dep", dep)
	t.Setenv("XDG_CACHE_HOME", w.path("cache"))
	return w
}

// kernel64 is the part of a bzImage for amd64 that says what it is.
func kernel64(release string) string {
	b := make([]byte, 0x400)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(b[0x20e:], 0x100)
	b[0x236] = 1
	copy(b[0x300:], release+" (builder) #1\x00")
	return string(b)
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string) string {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
	return w.path(name)
}

// run runs the command; @ in an argument stands for the world's directory.
func (w *world) run(args ...string) (code int, stdout, stderr string) {
	w.t.Helper()
	var out, errOut bytes.Buffer
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "@", w.dir)
	}
	code = cli.Run(context.Background(), newCommand(), args, cli.Streams{In: strings.NewReader(""), Out: &out, Err: &errOut})
	return code, out.String(), errOut.String()
}

func (w *world) must(args ...string) string {
	w.t.Helper()
	code, out, errOut := w.run(args...)
	if code != 0 {
		w.t.Fatalf("%q: exit %d: %s", args, code, errOut)
	}
	return out
}

// base are the flags of a build from the world's own parts.
func base(more ...string) []string {
	return append([]string{"build", "--no-check", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "--modules-dir", "@/modules/" + release}, more...)
}

func TestBuildAndInspect(t *testing.T) {
	w := newWorld(t)
	for _, c := range []string{"zstd", "gzip", "none"} {
		if out := w.must(base("-o", "@/out", "--compression", c)...); out != "" {
			t.Errorf("%s: printed %q", c, out)
		}
		list := w.must("ls", "-l", "@/out")
		for _, want := range []string{
			"segment 0, compression " + c + ", at byte 0\n",
			"-rwxr-xr-x   0:0         64 init\n",
			"crw-------   0:0        5,1 dev/console\n",
			"drwxrwxrwt   0:0          0 tmp\n",
			"-rw-r--r--   0:0         12 lib/modules/" + release + "/virtiofs.ko\n",
		} {
			if !strings.Contains(list, want) {
				t.Errorf("%s: the list lacks %q:\n%s", c, want, list)
			}
		}
		for _, name := range []string{"/etc/storeboot/boot.json", "etc/storeboot/../storeboot/boot.json"} {
			if spec := w.must("cat", "@/out", name); !strings.Contains(spec, `"kernel": "`+release+`"`) || strings.Index(spec, "virtio_pci") > strings.Index(spec, "virtiofs") {
				t.Errorf("%s: boot specification %s", c, spec)
			}
		}
	}
	if st, err := os.Stat(w.path("out")); err != nil || st.Mode().Perm()&0o444 == 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
	var list []listEntry
	if err := json.Unmarshal([]byte(w.must("ls", "--json", "@/out")), &list); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(e listEntry) bool { return e.Path == "dev/null" })
	if i < 0 || list[i].Type != "char" || list[i].Device != "1,3" || list[i].Mode != "0666" {
		t.Errorf("JSON list %+v", list)
	}
	var r buildResult
	if err := json.Unmarshal([]byte(w.must(base("-o", "@/out", "--json")...)), &r); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(w.path("out")); err != nil || r.Size != st.Size() || r.Release != release || len(r.Entries) == 0 || r.Compression != "zstd" {
		t.Errorf("JSON result %+v", r)
	}
}

// TestSegments reads a file to which a launcher has appended, as GNU cpio lays
// it out.
func TestSegments(t *testing.T) {
	tool, err := exec.LookPath("cpio")
	if err != nil {
		t.Skip("SKIP: this machine lacks cpio (apt-get install cpio)")
	}
	w := newWorld(t)
	w.must(base("-o", "@/out")...)
	w.write("more/etc/passwd", "changed")
	if err := os.Link(w.write("more/etc/a", "linked"), w.path("more/etc/b")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(tool, "-o", "-H", "newc", "--quiet")
	cmd.Dir, cmd.Stdin = w.path("more"), strings.NewReader("etc\netc/passwd\netc/a\netc/b\n")
	segment, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(w.path("out"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("both", string(first)+string(segment))
	if got := w.must("cat", "@/both", "/etc/passwd"); got != "changed" {
		t.Errorf("the last of two is %q", got)
	}
	for _, name := range []string{"etc/a", "etc/b"} {
		if got := w.must("cat", "@/both", name); got != "linked" {
			t.Errorf("%s, of two names, is %q", name, got)
		}
	}
	if list := w.must("ls", "-l", "@/both"); !strings.Contains(list, "segment 1, compression none, at byte") {
		t.Errorf("list %s", list)
	}
	w.write("cut", string(first[:len(first)/2]))
	if code, _, errOut := w.run("ls", "@/cut"); code != 1 || !strings.Contains(errOut, "unexpected EOF") {
		t.Errorf("a file that is cut off: exit %d, %s", code, errOut)
	}
}

func TestErrors(t *testing.T) {
	w := newWorld(t)
	w.write("bad.yaml", "description: x\nmodlues: [fuse]\n")
	w.write("module.yaml", "modules: [no_such_module]\n")
	w.write("text", "hello")
	w.must(base("-o", "@/good")...)
	w.must("build", "--init", "@/init", "--no-modules", "-o", "@/good2", "--kernel", "@/boot/vmlinuz")
	tests := []struct {
		name string
		args []string
		code int
		has  []string
	}{
		{"no output", []string{"build"}, 2, []string{"-o FILE is missing"}},
		{"argument", base("-o", "@/out", "extra"), 2, []string{"extra"}},
		{"unknown compression", base("-o", "@/out", "-c", "rar"), 2, []string{"rar", "zstd"}},
		{"level", base("-o", "@/out", "--level", "99"), 2, []string{"99", "1 to 22"}},
		{"two outputs on one", base("-o", "-", "--json"), 2, []string{"--json"}},
		{"modules and none", base("-o", "@/out", "--no-modules"), 2, []string{"--no-modules"}},
		{"unknown template", base("-o", "@/out", "-t", "stroe"), 1, []string{"stroe", "shell"}},
		{"no such template", base("-o", "@/out", "-t", "@/none.yaml"), 1, []string{"none.yaml"}},
		{"unknown key", base("-o", "@/out", "-t", "@/bad.yaml"), 1, []string{"bad.yaml:2:1", "modlues"}},
		{"unknown module", base("-o", "@/out", "-t", "@/module.yaml"), 1, []string{"no_such_module", "/modules/" + release}},
		{"output in no directory", base("-o", "@/none/out"), 1, []string{"none"}},
		{"output under a file", base("-o", "@/text/out"), 1, []string{"text"}},
		{"output is a directory", base("-o", "@/boot"), 1, []string{"boot: is a directory"}},
		{"no kernel", []string{"build", "-o", "@/out", "--kernel", "@/none"}, 1, []string{"none"}},
		{"not a kernel", []string{"build", "-o", "@/out", "--kernel", "@/text"}, 1, []string{"text", "not a kernel image"}},
		{"no modules", []string{"build", "-o", "@/out", "--kernel", "@/boot/vmlinuz"}, 1, []string{release, "--modules-dir", "--no-modules"}},
		{"no modules there", base("-o", "@/out", "--modules-dir", "@/none"), 1, []string{"none", "depmod"}},
		{"init is text", base("-o", "@/out", "--init", "@/text"), 1, []string{"text: not a program"}},
		{"no source", base("-o", "@/out", "--source", "@/none"), 1, []string{"none"}},
		{"ls of nothing", []string{"ls", "@/none"}, 1, []string{"none"}},
		{"ls of text", []string{"ls", "@/text"}, 1, []string{"neither an archive nor"}},
		{"cat of nothing", []string{"cat", "@/good", "/none"}, 1, []string{"good: none: no such file"}},
		{"cat of a directory", []string{"cat", "@/good", "etc"}, 1, []string{"is a directory"}},
		{"cat of a device", []string{"cat", "@/good", "dev/null"}, 1, []string{"is a char"}},
		{"cat without a path", []string{"cat", "@/good"}, 2, []string{"PATH is missing"}},
		{"templates of nothing", []string{"templates", "shel"}, 1, []string{"shel", `did you mean "shell"`}},
		{"templates of two", []string{"templates", "shell", "store"}, 2, []string{"store"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			code, out, errOut := w.run(tt.args...)
			if code != tt.code || out != "" {
				t.Errorf("exit %d, output %q, want %d and none", code, out, tt.code)
			}
			first, rest, _ := strings.Cut(errOut, "\n")
			if code == 1 && rest != "" {
				t.Errorf("more than one line: %s", errOut)
			}
			for _, want := range tt.has {
				if !strings.Contains(first, want) {
					t.Errorf("%q lacks %q", first, want)
				}
			}
			left, _ := filepath.Glob(w.path(".*"))
			if _, err := os.Stat(w.path("out")); err == nil || len(left) > 0 {
				t.Errorf("a failed build left something: %q", left)
			}
		})
	}
}

// TestOutput holds what happens to what is at the place of the output.
func TestOutput(t *testing.T) {
	w := newWorld(t)
	w.write("old", "old")
	if err := os.Symlink("old", w.path("link")); err != nil {
		t.Fatal(err)
	}
	w.must(base("-o", "@/link")...)
	if st, err := os.Lstat(w.path("link")); err != nil || st.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link was replaced: %v, %v", st, err)
	}
	want, err := os.ReadFile(w.path("old"))
	if err != nil || len(want) < 100 {
		t.Fatalf("%d bytes, %v", len(want), err)
	}
	if got := w.must(base("-o", "-")...); got != string(want) {
		t.Errorf("standard output has %d bytes, the file %d", len(got), len(want))
	}
	w.must(base("-o", "/dev/null")...)
	if st, err := os.Stat("/dev/null"); err != nil || st.Mode().IsRegular() {
		t.Fatal("the device was replaced")
	}
	// A build that fails leaves what was there.
	if code, _, _ := w.run(base("-o", "@/old", "--init", "@/none")...); code != 1 {
		t.Errorf("exit %d", code)
	}
	if got, err := os.ReadFile(w.path("old")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a failed build changed the output: %d bytes, %v", len(got), err)
	}
}

func TestNewestKernel(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIP: the kernels of this test are for amd64")
	}
	w := newWorld(t)
	for i, r := range []string{"6.1.0-9-cloud", "6.1.0-56-cloud", "6.10.1", "6.9.0-1", "7.0.0-no-modules"} {
		w.write(fmt.Sprintf("b/vmlinuz-%d", i), kernel64(r))
		if !strings.HasPrefix(r, "7") {
			w.write("m/"+r+"/modules.dep", "")
		}
	}
	w.write("b/vmlinuz-text", "text")
	got, err := newestKernel(w.path("b"), w.path("m"))
	if err != nil || got != w.path("b/vmlinuz-2") {
		t.Errorf("%s, %v", got, err)
	}
	if _, err := newestKernel(w.path("none"), w.path("m")); err == nil || !strings.Contains(err.Error(), "--kernel") {
		t.Errorf("none: %v", err)
	}
}

func TestCompareReleases(t *testing.T) {
	order := []string{"5.10.0", "6.1.0-9-cloud-amd64", "6.1.0-10-cloud-amd64", "6.1.0-56-cloud-amd64", "6.9", "6.10", "6.10.1", "10.0"}
	for i, a := range order {
		for j, b := range order {
			if got := compareReleases(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s compare as %d", a, b, got)
			}
		}
	}
}

// TestMonolithic holds that a kernel without modules needs no directory of them.
func TestMonolithic(t *testing.T) {
	w := newWorld(t)
	w.write("boot/config-"+release, "#\nCONFIG_64BIT=y\n# CONFIG_MODULES is not set\n")
	w.must("build", "--no-check", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "-o", "@/out")
	if spec := w.must("cat", "@/out", bootSpec); strings.Contains(spec, "modules") {
		t.Errorf("boot specification %s", spec)
	}
	// It may be able to load modules, and have none of its own.
	w.write("boot/config-"+release, "#\nCONFIG_64BIT=y\nCONFIG_MODULES=y\n")
	w.must("build", "--no-check", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "-o", "@/out")
	w.write("boot/config-"+release, "#\nCONFIG_64BIT=y\nCONFIG_MODULES=y\nCONFIG_FUSE_FS=m\n")
	if code, _, errOut := w.run("build", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "-o", "@/out"); code != 1 || !strings.Contains(errOut, "--modules-dir") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

// TestFindModules holds that the modules of the tree that the kernel is in go
// before those of the machine.
func TestFindModules(t *testing.T) {
	w := newWorld(t)
	kernel := filepath.Join(w.dir, "tree/boot/vmlinuz")
	if got := findModules(kernel, release); got != modulesDir+"/"+release {
		t.Errorf("none in the tree: %s", got)
	}
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		dir = filepath.Join("tree", dir, release)
		w.write(dir+"/modules.dep", "")
		if got := findModules(kernel, release); got != filepath.Join(w.dir, dir) {
			t.Errorf("%s: found %s", dir, got)
		}
	}
}

const bootSpec = "/etc/storeboot/boot.json"

func TestTemplates(t *testing.T) {
	w := newWorld(t)
	list := w.must("templates")
	for _, name := range []string{"store", "shell"} {
		if !strings.Contains(list, name) {
			t.Errorf("the list lacks %s: %s", name, list)
		}
		// What is printed is a template.
		w.write("mine.yaml", w.must("templates", name))
		if name == "store" {
			w.must(base("-t", "@/mine.yaml", "-o", "@/out")...)
		}
	}
	var all []struct{ Name string }
	if err := json.Unmarshal([]byte(w.must("templates", "--json")), &all); err != nil || len(all) != len(templates.Builtins()) {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestPinned holds that the commands of the built-in templates stay in go.mod:
// gobuild's list is all that keeps what they import there.
func TestPinned(t *testing.T) {
	list, err := os.ReadFile("gobuild/pinned.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range templates.Builtins() {
		tmpl, err := templates.Builtin(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range tmpl.Commands {
			if _, own := ownCommands[c.Name]; !own && !bytes.Contains(list, []byte("/cmds/core/"+c.Name+"\"")) {
				t.Errorf("gobuild/pinned.go lacks the command %s of template %s", c.Name, name)
			}
		}
	}
}

// BenchmarkBuild is a warm build; the floor writes the same bytes.
func BenchmarkBuild(b *testing.B) {
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	if len(kernels) == 0 {
		b.Skip("SKIP: this machine lacks a cloud kernel (apt-get install linux-image-cloud-amd64)")
	}
	w := &world{b, b.TempDir()}
	for _, c := range []string{"none", "zstd"} {
		b.Run(c, func(b *testing.B) {
			w := &world{b, w.dir}
			for b.Loop() {
				w.must("build", "--kernel", kernels[0], "-o", "@/out", "--compression", c)
			}
		})
		b.Run("floor-copy-"+c, func(b *testing.B) {
			for b.Loop() {
				data, err := os.ReadFile(w.path("out"))
				if err == nil {
					err = os.WriteFile(w.path("copy"), data, 0o644)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
