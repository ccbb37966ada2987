package kmod

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

const elfModule = "\x7fELF the module"

// tree makes a directory of modules: files by name; each module in modules.dep
// gets a file unless it is listed with a "!" before it.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "6.1.0-test")
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(files["modules.dep"]) {
		if path, _, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(path, "!") {
			write(path, elfModule)
		}
	}
	for name, text := range files {
		write(name, strings.ReplaceAll(text, "!", ""))
	}
	return dir
}

// virtio is the shape of Debian's cloud kernel.
var virtio = map[string]string{
	"modules.dep": `kernel/drivers/virtio/virtio.ko: kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/virtio/virtio_ring.ko:
kernel/drivers/virtio/virtio_pci_modern_dev.ko:
kernel/drivers/virtio/virtio_pci_legacy_dev.ko:
kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_pci_legacy_dev.ko kernel/drivers/virtio/virtio_pci_modern_dev.ko kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko
kernel/fs/fuse/fuse.ko:
kernel/fs/fuse/virtiofs.ko: kernel/drivers/virtio/virtio.ko kernel/drivers/virtio/virtio_ring.ko kernel/fs/fuse/fuse.ko
`,
	"modules.alias": `# Aliases extracted from modules themselves.
alias fs-virtiofs virtiofs
alias virtio:d0000001Av* virtiofs
alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci
alias broken[ fuse
`,
	"modules.builtin": "kernel/fs/proc/proc.ko\nkernel/lib/crc-ccitt.ko\n",
	"modules.softdep": "# nothing\n",
}

func with(base map[string]string, more ...string) map[string]string {
	out := map[string]string{}
	for k, v := range base {
		out[k] = v
	}
	for i := 0; i < len(more); i += 2 {
		out[more[i]] = more[i+1]
	}
	return out
}

func TestClosure(t *testing.T) {
	const mods = "kernel/a.ko:\nkernel/b.ko:\nkernel/c.ko: kernel/b.ko\n"
	tests := []struct {
		name  string
		files map[string]string
		names string
		want  string // or part of the error
	}{
		{"virtio-fs over PCI", virtio, "virtio_pci virtiofs", "virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci fuse virtiofs"},
		{"- and _", virtio, "virtio-rng", "virtio_ring virtio virtio_rng"},
		{"built in", virtio, "proc crc-ccitt fuse", "fuse"},
		{"alias", virtio, "fs-virtiofs", "fuse virtio_ring virtio virtiofs"},
		{"alias with a pattern", virtio, "virtio:d0000001Av00001AF4", "fuse virtio_ring virtio virtiofs"},
		{"twice", virtio, "fuse fuse", "fuse"},
		{"none", virtio, "", ""},
		{"missing", virtio, "no_such_module", "no_such_module: no such module in"},
		{"soft dependencies", with(nil, "modules.dep", mods, "modules.softdep", "softdep c pre: a gone post: d\n"), "c", "a b c"},
		{"soft dependency behind", with(nil, "modules.dep", mods, "modules.softdep", "softdep a post: c\n"), "a", "a b c"},
		{"soft dependency of a dependency", with(nil, "modules.dep", mods, "modules.softdep", "softdep b pre: a\n"), "c", "a b c"},
		{"soft cycle", with(nil, "modules.dep", mods, "modules.softdep", "softdep a pre: c\nsoftdep c pre: a\n"), "a", "b c a"},
		{"soft alias", with(nil, "modules.dep", mods, "modules.softdep", "softdep a pre: x-y\n", "modules.alias", "alias x-y b\n"), "a", "b a"},
		{"soft, built in", with(nil, "modules.dep", mods, "modules.softdep", "softdep a pre: c\n", "modules.builtin", "kernel/c.ko\n"), "a", "a"},
		{"need is built in", with(nil, "modules.dep", mods, "modules.builtin", "kernel/b.ko\n"), "c", "c"},
		{"need is missing", with(nil, "modules.dep", "kernel/c.ko: kernel/b.ko\n"), "c", "module b, which c needs: no such module"},
		{"cycle", with(nil, "modules.dep", "a.ko: b.ko\nb.ko: a.ko\n"), "a", "needs itself"},
		{"file is missing", with(nil, "modules.dep", "!kernel/a.ko:\n"), "a", "modules.dep names it"},
		{"compressed", with(nil, "modules.dep", "kernel/a.ko.xz: kernel/b.ko.zst\nkernel/b.ko.zst: kernel/c.ko.gz\nkernel/c.ko.gz:\n"), "a", "c b a"},
		{"no dependencies", with(nil, "modules.dep", "kernel/a.ko\n"), "a", "line 1: no colon"},
		{"path leads out", with(nil, "modules.dep", "!../../a.ko:\n"), "a", "not a path to a module"},
		{"absolute path", with(nil, "modules.dep", "!/a.ko:\n"), "a", "not a path to a module"},
		{"no index", with(nil, "modules.alias", ""), "a", "run depmod"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tree(t, tt.files)
			x, err := Open(dir)
			var list []Module
			if err == nil {
				list, err = x.Closure(strings.Fields(tt.names)...)
			}
			if err != nil {
				if !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), dir) || tt.want == "" {
					t.Errorf("error %v, want %q and the directory", err, tt.want)
				}
				return
			}
			var got []string
			for _, m := range list {
				got = append(got, m.Name)
				if !strings.HasSuffix(m.Path, ".ko") || !strings.HasPrefix(m.File, dir) {
					t.Errorf("%+v: want a path without compression and a file in %s", m, dir)
				}
			}
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("order %q, want %q", s, tt.want)
			}
		})
	}
}

func TestNotFound(t *testing.T) {
	x, err := Open(tree(t, virtio))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Resolve("nothing"); !errors.Is(err, ErrNotFound) {
		t.Errorf("error %v", err)
	}
	if x.Has("nothing") || !x.Has("proc") || !x.Has("fs-virtiofs") {
		t.Error("Has is wrong")
	}
}

func TestRead(t *testing.T) {
	pack := func(w func(*bytes.Buffer) error) string {
		var b bytes.Buffer
		if err := w(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	gz := pack(func(b *bytes.Buffer) error {
		w := gzip.NewWriter(b)
		_, err := w.Write([]byte(elfModule))
		return errors.Join(err, w.Close())
	})
	xzed := pack(func(b *bytes.Buffer) error {
		w, err := xz.NewWriter(b)
		if err != nil {
			return err
		}
		_, err = w.Write([]byte(elfModule))
		return errors.Join(err, w.Close())
	})
	zst := pack(func(b *bytes.Buffer) error {
		w, err := zstd.NewWriter(b)
		if err != nil {
			return err
		}
		_, err = w.Write([]byte(elfModule))
		return errors.Join(err, w.Close())
	})
	tests := []struct{ name, data, err string }{
		{"a.ko", elfModule, ""},
		{"a.ko.gz", gz, ""},
		{"a.ko.xz", xzed, ""},
		{"a.ko.zst", zst, ""},
		{"empty.ko", "", "not an ELF file"},
		{"text.ko", "hello", "not an ELF file"},
		{"cut.ko.gz", gz[:len(gz)-9], "unexpected EOF"},
		{"cut.ko.xz", xzed[:len(xzed)-20], "unexpected EOF"},
		{"cut.ko.zst", zst[:len(zst)-9], "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), tt.name)
			if err := os.WriteFile(file, []byte(tt.data), 0o644); err != nil {
				t.Fatal(err)
			}
			got, err := Module{Name: "a", File: file}.Read()
			if tt.err == "" {
				if err != nil || string(got) != elfModule {
					t.Errorf("%q, %v", got, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v, want %q and the file", err, tt.err)
			}
		})
	}
}

// TestRealKernel reads what a distribution installed.
func TestRealKernel(t *testing.T) {
	dirs, _ := filepath.Glob("/lib/modules/*-cloud-*")
	if len(dirs) == 0 {
		t.Skip("SKIP: this machine lacks a cloud kernel's modules (apt-get install linux-image-cloud-amd64)")
	}
	x, err := Open(dirs[len(dirs)-1])
	if err != nil {
		t.Fatal(err)
	}
	list, err := x.Closure("virtio_pci", "virtiofs", "virtio_console")
	if err != nil {
		t.Fatal(err)
	}
	// The modules themselves say what they need: .modinfo has "depends=a,b".
	var names []string
	for _, m := range list {
		data, err := m.Read()
		if err != nil {
			t.Fatalf("%s: %v", m.Name, err)
		}
		_, rest, ok := bytes.Cut(data, []byte("\x00depends="))
		needs, _, end := bytes.Cut(rest, []byte{0})
		if !ok || !end {
			t.Fatalf("%s says nothing of what it needs", m.Name)
		}
		for need := range strings.SplitSeq(string(needs), ",") {
			if need != "" && !slices.Contains(names, Canonical(need)) && !x.builtin[Canonical(need)] {
				t.Errorf("%s needs %s, before it come %q", m.Name, need, names)
			}
		}
		names = append(names, m.Name)
	}
}

func FuzzParsers(f *testing.F) {
	for name, text := range virtio {
		f.Add(name, []byte(text))
	}
	f.Add("modules.softdep", []byte("softdep a b pre: c-d post: e\n"))
	f.Fuzz(func(t *testing.T, name string, data []byte) {
		r := bytes.NewReader(data)
		switch name {
		case "modules.dep":
			deps, err := parseDep(r)
			if err != nil {
				return
			}
			x := &Index{dir: t.TempDir(), deps: deps, aliases: func() ([]alias, error) { return nil, nil }}
			for name := range deps {
				if list, err := x.Closure(name); err == nil {
					t.Errorf("%v in an empty directory", list)
				}
			}
		case "modules.softdep":
			_, _ = parseSoftdep(r)
		case "modules.builtin":
			_, _ = parseBuiltin(r)
		default:
			list, err := parseAlias(r)
			if err != nil {
				return
			}
			x := &Index{aliases: func() ([]alias, error) { return list, nil }}
			for _, a := range list {
				_ = x.Has(a.pattern)
			}
		}
	})
}

// The floor is reading modules.dep.
func BenchmarkOpen(b *testing.B) {
	dirs, _ := filepath.Glob("/lib/modules/*-cloud-*")
	if len(dirs) == 0 {
		b.Skip("SKIP: this machine lacks a cloud kernel's modules")
	}
	b.Run("ours", func(b *testing.B) {
		for b.Loop() {
			x, err := Open(dirs[0])
			if err != nil {
				b.Fatal(err)
			}
			if _, err := x.Closure("virtio_pci", "virtiofs"); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor-read", func(b *testing.B) {
		for b.Loop() {
			if _, err := os.ReadFile(dirs[0] + "/modules.dep"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
