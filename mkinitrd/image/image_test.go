package image

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

// program is the smallest file that passes for a program.
func program(machine elf.Machine, typ elf.Type, interpreter bool) []byte {
	h := elf.Header64{Type: uint16(typ), Machine: uint16(machine), Version: 1, Ehsize: 64, Phentsize: 56}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	if interpreter {
		h.Phoff, h.Phnum = 64, 1
	}
	_ = binary.Write(&b, binary.LittleEndian, h)
	if interpreter {
		_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP)})
	}
	return b.Bytes()
}

// world is a machine to build on.
type world struct {
	t   testing.TB
	dir string
}

func newWorld(t testing.TB) *world {
	w := &world{t, t.TempDir()}
	w.write("init", program(elf.EM_X86_64, elf.ET_EXEC, false))
	w.write("sh", program(elf.EM_X86_64, elf.ET_DYN, false))
	w.write("bb", program(elf.EM_X86_64, elf.ET_EXEC, false))
	w.write("modules/modules.dep", []byte("kernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko\nkernel/fs/fuse/fuse.ko:\nkernel/nvme-core.ko:\n"))
	w.write("modules/modules.builtin", []byte("kernel/proc.ko\n"))
	for _, m := range []string{"fs/fuse/virtiofs", "fs/fuse/fuse", "nvme-core"} {
		w.write("modules/kernel/"+m+".ko", []byte("\x7fELF"+m))
	}
	w.write("motd", []byte("hello\n"))
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name string, data []byte) {
	w.t.Helper()
	if err := os.MkdirAll(filepath.Dir(w.path(name)), 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(w.path(name), data, 0o644); err != nil {
		w.t.Fatal(err)
	}
}

// builder is for the template whose text is given, relative to the world.
func (w *world) builder(text string) *Builder {
	w.t.Helper()
	w.write("t.yaml", []byte(text))
	tmpl, err := templates.Load(w.path("t.yaml"), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	index, err := kmod.Open(w.path("modules"))
	if err != nil {
		w.t.Fatal(err)
	}
	return &Builder{
		Template: tmpl, Init: w.path("init"), Programs: map[string]string{"sh": w.path("sh")}, Busybox: w.path("bb"),
		Modules: index, Kernel: "6.1.0-test", Arch: "amd64",
	}
}

const full = `
modules: [virtiofs, proc, nonesuch?, "nvme-core multipath=0"]
commands: [sh, ls, cat]
shell: [/bin/sh, -l]
mode: shell
directories:
  - {path: /data, mode: 0700}
  - {path: /etc, mode: 0750}
files:
  - {source: motd, path: /etc/motd}
  - {source: motd, path: /deep/er/motd, mode: 0600}
  - {source: init, path: /usr/bin/tool}
symlinks:
  - {path: /bin/bash, target: sh}
mounts:
  - {source: tmpfs, target: /mnt/scratch, type: tmpfs, options: nosuid}
`

func TestBuild(t *testing.T) {
	img, err := newWorld(t).builder(full).Build()
	if err != nil {
		t.Fatal(err)
	}
	if len(img.Segments) != 1 {
		t.Fatalf("%d segments", len(img.Segments))
	}
	got := map[string]Entry{}
	var spec *bootproto.BootSpec
	for i, e := range img.Segments[0].Entries {
		if e.MTime != 0 || e.UID != 0 || e.GID != 0 || e.Ino != uint32(i)+1 || e.Why == "" {
			t.Errorf("%s: %+v", e.Name, e.Header)
		}
		if dir := filepath.Dir(e.Name); dir != "." {
			if d, ok := got[dir]; !ok || !d.IsDir() {
				t.Errorf("%s: stands before its directory", e.Name)
			}
		}
		got[e.Name] = e
		if "/"+e.Name == bootproto.BootSpecPath {
			if spec, err = bootproto.ParseBootSpec(e.Data); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, mode := range map[string]uint32{
		"init": 0o100755, "bin/sh": 0o100755, "bin/bb": 0o100755, "bin/ls": 0o120777, "bin/cat": 0o120777, "bin/bash": 0o120777,
		"dev/console": 0o020600, "dev/null": 0o020666, "data": 0o040700, "etc": 0o040750, "tmp": 0o041777, "root": 0o040700,
		"etc/motd": 0o100644, "deep": 0o040755, "deep/er": 0o040755, "deep/er/motd": 0o100600, "usr/bin/tool": 0o100644,
		"nix/store": 0o040755, "mnt/scratch": 0o040755, "etc/passwd": 0o100644,
		"lib/modules/6.1.0-test/kernel/fs/fuse/fuse.ko": 0o100644,
	} {
		if e, ok := got[name]; !ok || e.Mode != mode {
			t.Errorf("%s: mode %#o, want %#o", name, e.Mode, mode)
		}
	}
	if c := got["dev/console"]; c.RDevMajor != 5 || c.RDevMinor != 1 {
		t.Errorf("/dev/console is %d,%d", c.RDevMajor, c.RDevMinor)
	}
	if spec == nil {
		t.Fatal("no boot specification")
	}
	var names []string
	for _, m := range spec.Modules {
		names = append(names, m.Name+"("+m.Options+")")
		if e := got[strings.TrimPrefix(m.Path, "/")]; len(e.Data) == 0 {
			t.Errorf("module %s: nothing at %s", m.Name, m.Path)
		}
	}
	if s := strings.Join(names, " "); s != "fuse() virtiofs() nvme_core(multipath=0)" {
		t.Errorf("modules %s", s)
	}
	if spec.Kernel != "6.1.0-test" || spec.Mode != bootproto.ModeShell || !slices.Equal(spec.Shell, []string{"/bin/sh", "-l"}) || len(spec.Mounts) != 1 {
		t.Errorf("boot specification %+v", spec)
	}
}

func TestBuildErrors(t *testing.T) {
	tests := []struct {
		name, template string
		change         func(*world, *Builder)
		err            string
	}{
		{"missing module", "modules: [nonesuch]", nil, "nonesuch"},
		{"missing file", "files: [{source: none, path: /x}]", nil, "none"},
		{"file is a directory", "files: [{source: modules, path: /x}]", nil, "not a regular file"},
		{"twice", "files: [{source: motd, path: /init}]", nil, "/init: is there twice"},
		{"command twice", "commands: [sh]\nsymlinks: [{path: /bin/sh, target: x}]", nil, "/bin/sh: is there twice"},
		{"under a file", "files: [{source: motd, path: /init/x}]", nil, "/init, which is not a directory"},
		{"under a link", "symlinks: [{path: /a, target: /tmp}]\nfiles: [{source: motd, path: /a/x}]", nil, "not a directory"},
		{"shell is missing", "shell: [/bin/zsh]", nil, "shell /bin/zsh: no such program"},
		{"shell is no program", "shell: [/motd]\nfiles: [{source: motd, path: /motd}]", nil, "no such program"},
		{"shell is a dead link", "shell: [/a]\nsymlinks: [{path: /a, target: /a}]", nil, "no such program"},
		{"mode without shell", "mode: shell", nil, "names no shell"},
		{"init is missing", "mode: find", func(_ *world, b *Builder) { b.Init = "/none/init" }, "/none/init"},
		{"init is text", "mode: find", func(w *world, b *Builder) { b.Init = w.path("motd") }, "not a program"},
		{"init is empty", "mode: find", func(w *world, b *Builder) { w.write("e", nil); b.Init = w.path("e") }, "not a program"},
		{"init is dynamic", "mode: find", func(w *world, b *Builder) {
			w.write("init", program(elf.EM_X86_64, elf.ET_DYN, true))
		}, "link it statically"},
		{"init is an object", "mode: find", func(w *world, b *Builder) {
			w.write("init", program(elf.EM_X86_64, elf.ET_REL, false))
		}, "not a program"},
		{"other machine", "mode: find", func(w *world, b *Builder) { b.Arch = "arm64" }, "EM_AARCH64"},
		{"long target", "symlinks: [{path: /a, target: " + strings.Repeat("x", 5000) + "}]", nil, "target of 5000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			b := w.builder(tt.template)
			if tt.change != nil {
				tt.change(w, b)
			}
			img, err := b.Build()
			if err == nil {
				err = img.Write(io.Discard, compress.None, 0)
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// TestSameBytes builds the same in two places, with other permissions, times
// and umask.
func TestSameBytes(t *testing.T) {
	build := func(change func(*world)) []byte {
		w := newWorld(t)
		change(w)
		img, err := w.builder(full).Build()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := img.Write(&b, compress.Zstd, 0); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	first := build(func(*world) {})
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	second := build(func(w *world) {
		past := time.Unix(1, 0)
		if err := errors.Join(os.Chtimes(w.path("motd"), past, past), os.Chmod(w.path("motd"), 0o600)); err != nil {
			t.Fatal(err)
		}
	})
	if !bytes.Equal(first, second) {
		t.Errorf("%d and %d bytes, and they differ", len(first), len(second))
	}
}

func TestFileChanges(t *testing.T) {
	w := newWorld(t)
	for _, data := range []string{"", "much longer than before"} {
		w.write("motd", []byte("hello\n"))
		img, err := w.builder("files: [{source: motd, path: /motd}]").Build()
		if err != nil {
			t.Fatal(err)
		}
		w.write("motd", []byte(data))
		if err := img.Write(io.Discard, compress.None, 0); err == nil {
			t.Errorf("a file that became %d bytes was not noticed", len(data))
		}
	}
}
