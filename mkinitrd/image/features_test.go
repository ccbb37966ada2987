package image

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"storeboot/internal/bootproto"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/kmod"
)

// entries are all entries of the image by path, the last one of each.
func entries(img *Image) map[string]Entry {
	out := map[string]Entry{}
	for _, s := range img.Segments {
		for _, e := range s.Entries {
			out["/"+e.Name] = e
		}
	}
	return out
}

func (w *world) build(text string, change func(*Builder)) *Image {
	w.t.Helper()
	b := w.builder(text)
	if change != nil {
		change(b)
	}
	img, err := b.Build()
	if err != nil {
		w.t.Fatal(err)
	}
	return img
}

// TestTreeModes holds which permission bits of a tree are in the image.
func TestTreeModes(t *testing.T) {
	w := newWorld(t)
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	for name, perm := range map[string]os.FileMode{
		"root/su": 0o755 | os.ModeSetuid, "root/write": 0o755 | os.ModeSetgid, "root/secret": 0o400,
		"root/private/x": 0o640 | os.ModeSetuid, "root/shared/x": 0o777, "root/open/x": 0o644,
	} {
		w.write(name, []byte(name))
		if err := os.Chmod(w.path(name), perm); err != nil {
			t.Fatal(err)
		}
	}
	for name, perm := range map[string]os.FileMode{"private": 0o700, "shared": 0o775 | os.ModeSetgid, "open": 0o777 | os.ModeSticky} {
		if err := os.Chmod(w.path("root/"+name), perm); err != nil {
			t.Fatal(err)
		}
	}
	got := entries(w.build("trees: [{source: root, path: /a}, {source: root, path: /b, modes: keep}]\nfiles: [{source: root/su, path: /su}]\n", nil))
	for path, want := range map[string]uint32{
		"/su": 0o4755, "/a/su": 0o4755, "/a/write": 0o2755, "/a/secret": 0o644, "/a/private": 0o755, "/a/private/x": 0o644,
		"/a/shared": 0o755, "/a/shared/x": 0o755, "/a/open": 0o1777,
		"/b/su": 0o4755, "/b/write": 0o2755, "/b/secret": 0o400, "/b/private": 0o700, "/b/private/x": 0o4640,
		"/b/shared": 0o2775, "/b/shared/x": 0o777, "/b/open": 0o1777,
	} {
		if e, ok := got[path]; !ok || e.Perm() != want {
			t.Errorf("%s: mode %04o, want %04o", path, e.Perm(), want)
		}
	}
}

func TestContents(t *testing.T) {
	w := newWorld(t)
	w.write("root/etc/conf", []byte("x"))
	w.write("root/bin/tool", []byte("tool"))
	for _, err := range []error{
		os.Chmod(w.path("root/bin/tool"), 0o700),
		os.Link(w.path("root/bin/tool"), w.path("root/bin/again")),
		os.Symlink("../none", w.path("root/etc/link")),
		syscall.Mkfifo(w.path("root/pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := entries(w.build(`
trees: [{source: root, path: /, owner: "5:6"}]
directories: [{path: /data, mode: 01777, owner: "1:2"}]
files: [{text: "hello", path: /etc/text, mode: 0400}]
devices: [{path: /dev/sda, type: block, major: 8, minor: 0}, {path: /run/fifo, type: fifo}]
symlinks: [{path: /lnk, target: etc, owner: "3:4"}]
`, nil))
	for path, want := range map[string]string{
		"/etc/conf":  "100644 5:6 1 x",
		"/bin/again": "100755 5:6 4 tool",
		"/bin/tool":  "100755 5:6 0 ",
		"/etc/link":  "120777 5:6 7 ../none",
		"/pipe":      "010600 5:6 0 ",
		"/data":      "041777 1:2 0 ",
		"/etc/text":  "100400 0:0 5 hello",
		"/dev/sda":   "060600 0:0 0 ",
		"/run/fifo":  "010600 0:0 0 ",
		"/lnk":       "120777 3:4 3 etc",
	} {
		e := got[path]
		text := string(e.Data)
		if e.File != "" {
			data, err := os.ReadFile(e.File)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if s := fmt.Sprintf("%06o %d:%d %d %s", e.Mode, e.UID, e.GID, e.Size, text); s != want {
			t.Errorf("%s: %s, want %s", path, s, want)
		}
	}
	a, b := got["/bin/again"], got["/bin/tool"]
	if a.Ino != b.Ino || a.NLink != 2 || b.NLink != 2 || b.LinkTo() != "bin/again" {
		t.Errorf("two names of a file: %+v and %+v", a, b)
	}
	if e := got["/dev/sda"]; e.RDevMajor != 8 || e.At == "" {
		t.Errorf("device %+v", e)
	}
}

// TestPositions holds that what is wrong with an item is said at its line.
func TestPositions(t *testing.T) {
	for _, tt := range []struct{ text, err string }{
		{"modules:\n  - fuse\n  - no_such\n", "t.yaml:3:5: module no_such"},
		{"modules: [drivers/none/]\n", "t.yaml:1:11: modules in drivers/none/"},
		{"files:\n  - {source: none, path: /x}\n", "t.yaml:2:5: "},
		{"trees: [{source: motd, path: /x}]\n", "t.yaml:1:9: tree "},
		{"binaries: [no-such-program]\n", "t.yaml:1:12: program no-such-program: not found"},
		{"binaries: [./none]\n", "t.yaml:1:12: "},
		{"nss: [files]\n", "t.yaml:1:7: nss"},
		{"firmware: [none.fw]\n", "t.yaml:1:12: firmware none.fw: not in"},
		{"archives: [motd]\n", "t.yaml:1:12: archive "},
		{"hooks: {before_store: [[/bin/none]]}\n", "t.yaml:1:24: hook /bin/none: no such program"},
		{"run: {argv: [/bin/none]}\n", "run: /bin/none: no such program"},
		{"microcode: [amd]\n", "t.yaml:1:13: microcode amd: none in"},
		{"commands: [sh]\nfiles: [{source: motd, path: /bin/sh}]\n", "t.yaml:2:9: /bin/sh: is there twice, for command sh and for file"},
	} {
		w := newWorld(t)
		b := w.builder(tt.text)
		b.Sysroot = w.dir
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%q: error %v, want %q", tt.text, err, tt.err)
		}
	}
}

// TestModulesAvailable has modules that init does not load, with their tables.
func TestModulesAvailable(t *testing.T) {
	w := newWorld(t)
	w.write("modules/modules.alias", []byte("alias fs-virtiofs virtiofs\n"))
	img := w.build("modules:\n  - {name: nvme-core, options: a=b}\n  - fs/fuse/\n", nil)
	got := entries(img)
	spec, err := bootproto.ParseBootSpec(got[bootproto.BootSpecPath].Data)
	if err != nil || len(spec.Modules) != 1 || spec.Modules[0].Name != "nvme_core" || spec.Modules[0].Options != "a=b" {
		t.Errorf("boot specification %+v, %v", spec, err)
	}
	const dir = "/lib/modules/6.1.0-test/"
	if s := string(got[dir+"modules.dep"].Data); s != "kernel/fs/fuse/fuse.ko:\nkernel/nvme-core.ko:\nkernel/fs/fuse/virtiofs.ko: kernel/fs/fuse/fuse.ko\n" {
		t.Errorf("modules.dep %q", s)
	}
	if s := string(got[dir+"modules.alias"].Data); s != "alias fs_virtiofs virtiofs\n" {
		t.Errorf("modules.alias %q", s)
	}
	if e := got[dir+"kernel/fs/fuse/virtiofs.ko"]; e.Why != "module virtiofs" || !strings.HasSuffix(e.At, "t.yaml:3:5") {
		t.Errorf("virtiofs %+v", e)
	}
	img = w.build("modules: [fs-virtiofs]\n", nil)
	if e := entries(img)[dir+"kernel/fs/fuse/fuse.ko"]; e.By != dir+"kernel/fs/fuse/virtiofs.ko" {
		t.Errorf("fuse %+v", e)
	}
}

// TestFirmware takes firmware that the template and that modules name.
func TestFirmware(t *testing.T) {
	w := newWorld(t)
	w.write("lib/firmware/a.fw", []byte("plain"))
	w.write("lib/firmware/updates/a.fw", []byte("newer"))
	w.write("lib/firmware/6.1.0-test/sub/b.fw.xz", []byte("packed"))
	w.write("lib/firmware/c-1.fw", []byte("1"))
	w.write("lib/firmware/c-2.fw", []byte("2"))
	b := w.builder("firmware: [a.fw]\n")
	b.Sysroot, b.Log = w.dir, slog.New(slog.DiscardHandler)
	tr := newTree()
	if err := b.addFirmware(tr, []wanted{{"sub/b.fw", "/m.ko"}, {"c-*.fw", "/m.ko"}, {"none.fw", "/m.ko"}, {"../../etc/passwd", "/m.ko"}}); err != nil {
		t.Fatal(err)
	}
	want := []string{"/lib/firmware/6.1.0-test/sub/b.fw.xz", "/lib/firmware/c-1.fw", "/lib/firmware/c-2.fw", "/lib/firmware/updates/a.fw"}
	if got := tr.names(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if e := tr.entries["/lib/firmware/c-1.fw"]; e.By != "/m.ko" || e.Why != "firmware c-*.fw" {
		t.Errorf("%+v", e)
	}
}

// TestEarly holds the order of segments, and that early ones are never
// compressed.
func TestEarly(t *testing.T) {
	w := newWorld(t)
	w.write("lib/firmware/intel-ucode/06-01-02", []byte("two"))
	w.write("lib/firmware/intel-ucode/06-01-01", []byte("one"))
	w.write("lib/firmware/intel-ucode/06-01-01.initramfs", []byte("never"))
	write := func(name string, c compress.Codec) {
		var b bytes.Buffer
		img := Image{Segments: []Segment{{Entries: []Entry{{Header: newc.Header{Name: name, Mode: newc.TypeRegular | 0o644, Size: 1}, Data: []byte("x")}}}}}
		if err := img.Write(&b, c, 0); err != nil {
			t.Fatal(err)
		}
		w.write(name+".cpio", b.Bytes()[:b.Len():b.Len()])
	}
	write("acpi", compress.None)
	write("base", compress.Gzip)
	text := "microcode: [intel, \"amd?\"]\narchives: [base.cpio, {source: acpi.cpio, early: true}]\n"
	img := w.build(text, func(b *Builder) { b.Sysroot = w.dir })
	var out bytes.Buffer
	if err := img.Write(&out, compress.Zstd, 0); err != nil {
		t.Fatal(err)
	}
	var got []string
	_, err := archive.Walk(bytes.NewReader(out.Bytes()), func(e archive.Entry) error {
		if e.Type() == newc.TypeRegular && e.Segment.Number < 4 && len(got) < 4 {
			got = append(got, fmt.Sprint(e.Segment.Number, e.Segment.Codec, e.Name))
		}
		return nil
	})
	want := []string{"0 none kernel/x86/microcode/GenuineIntel.bin", "1 none acpi", "2 gzip base", "3 zstd bin/sh"}
	for i := range want {
		want[i] = strings.ReplaceAll(want[i], " ", "")
		if err != nil || len(got) != 4 || i < 3 && strings.ReplaceAll(got[i], " ", "") != want[i] || i == 3 && !strings.HasPrefix(got[i], "3") {
			t.Fatalf("got %q, %v, want %q", got, err, want)
		}
	}
	if e := img.Segments[0].Entries; string(e[len(e)-1].Data) != "onetwo" {
		t.Errorf("microcode %q", e[len(e)-1].Data)
	}
	write("bad", compress.Gzip)
	b := w.builder("archives: [{source: bad.cpio, early: true}]\n")
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "compressed with gzip") {
		t.Errorf("a compressed early archive: %v", err)
	}
}

// TestCut holds that segments are cut by size, never within a file's names, and
// that they hold together what one holds.
func TestCut(t *testing.T) {
	var list []Entry
	for i, size := range []int64{5, 5, 20, 1, 0, 3, 9} {
		list = append(list, Entry{Header: newc.Header{Name: fmt.Sprint(i), Ino: uint32(i + 1), Size: size}})
	}
	list[5].Ino = list[3].Ino // two names of one file
	var got []string
	for _, s := range cut(list, 10) {
		names := ""
		for _, e := range s.Entries {
			names += e.Name
		}
		got = append(got, names)
	}
	if !slices.Equal(got, []string{"01", "2", "345", "6"}) {
		t.Errorf("got %q", got)
	}
	if s := cut(list, 0); len(s) != 1 || len(s[0].Entries) != len(list) {
		t.Errorf("no limit: %d segments", len(s))
	}
}

// TestSegmentsSame holds that the bytes of an image with many segments are the
// same, whether they were kept or not, and read back as those of one.
func TestSegmentsSame(t *testing.T) {
	w := newWorld(t)
	for i := range 20 {
		w.write(fmt.Sprintf("root/f%02d", i), bytes.Repeat([]byte{byte(i)}, 5000))
	}
	const text = "trees: [{source: root, path: /data}]\n"
	img := w.build(text, func(b *Builder) { b.SegmentSize = 12 << 10 })
	if len(img.Segments) < 8 {
		t.Fatalf("%d segments", len(img.Segments))
	}
	dir, built := t.TempDir(), 0
	keep := func(key string, build func(string) error) (string, error) {
		file := dir + "/" + key
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
		built++
		return file, build(file)
	}
	var plain, first, second bytes.Buffer
	for _, x := range []struct {
		out  *bytes.Buffer
		keep func(string, func(string) error) (string, error)
	}{{&plain, nil}, {&first, keep}, {&second, keep}} {
		// One at a time: the counter above is not for concurrent use.
		for i := range img.Segments {
			one := Image{Segments: img.Segments[i : i+1]}
			if err := one.WriteWith(x.out, Options{Codec: compress.Zstd, Keep: x.keep}); err != nil {
				t.Fatal(err)
			}
		}
	}
	var whole bytes.Buffer
	if err := img.Write(&whole, compress.Zstd, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(plain.Bytes(), whole.Bytes()) || !bytes.Equal(plain.Bytes(), first.Bytes()) || !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the bytes differ")
	}
	if built != len(img.Segments) {
		t.Errorf("%d segments were compressed, of %d", built, len(img.Segments))
	}
	names := map[string]bool{}
	_, err := archive.Walk(&whole, func(e archive.Entry) error {
		names[e.Name] = true
		return nil
	})
	if err != nil || !names["data/f19"] || !names["init"] {
		t.Errorf("read back %d names, %v", len(names), err)
	}
}

// TestBinaries takes a program of this machine with its libraries.
func TestBinaries(t *testing.T) {
	if _, err := os.Stat("/bin/cat"); err != nil {
		t.Skip("SKIP: this machine lacks /bin/cat")
	}
	img := newWorld(t).build("binaries: [cat, no-such-program?, {source: /bin/cat, path: /opt/cat}]\nnss: [files]\n", func(b *Builder) { b.Modules = (*kmod.Index)(nil) })
	got := entries(img)
	for _, path := range []string{"/bin/cat", "/opt/cat", "/etc/nsswitch.conf"} {
		if e, ok := got[path]; !ok || e.At == "" {
			t.Errorf("%s: %+v", path, e)
		}
	}
	i := 0
	for _, e := range got {
		if strings.HasPrefix(e.Why, "library ") && e.By != "" {
			i++
		}
	}
	if i == 0 {
		t.Error("no library is there")
	}
}
