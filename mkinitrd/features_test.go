package main

import (
	"bytes"
	"debug/pe"
	"encoding/json"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestParametersAndAdditions gives a template values and more items.
func TestParametersAndAdditions(t *testing.T) {
	w := newWorld(t)
	w.write("t.yaml", "extends: store\nparameters: [{name: text, default: none}]\nfiles: [{text: \"${text}\", path: /etc/text}]\n")
	w.write("motd", "hello")
	w.must(base("-o", "@/out", "-t", "@/t.yaml", "--set", "text=a=b", "--file", "@/motd:/etc/motd", "--module", "virtio_console a=1", "--binary", "@/init")...)
	for path, want := range map[string]string{"/etc/text": "a=b", "/etc/motd": "hello", "/etc/storeboot/boot.json": `"options": "a=1"`} {
		if got := w.must("cat", "@/out", path); !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if list := w.must("ls", "@/out"); !strings.Contains(list, strings.TrimPrefix(w.path("init"), "/")) {
		t.Errorf("the binary is not in its place:\n%s", list)
	}
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"--set", "txet=x"}, 1, `unknown parameter "txet"`},
		{[]string{"--set", "text"}, 2, "NAME=VALUE"},
		{[]string{"--set", "text=a", "--set", "text=b"}, 2, "twice"},
		{[]string{"--module", "no_such"}, 1, "--module: module no_such"},
		{[]string{"--module", "a/b"}, 1, "--module:1:"},
		{[]string{"--binary", "no-such-program"}, 1, "--binary: program no-such-program"},
		{[]string{"--file", "motd"}, 1, "SOURCE:PATH"},
		{[]string{"--max-size", "100"}, 1, "--max-size: the image has"},
		{[]string{"--max-size", "x"}, 2, "number of bytes"},
		{[]string{"--cmdline", "x"}, 2, "--uki"},
	} {
		code, _, errOut := w.run(base(append([]string{"-o", "@/out2", "-t", "@/t.yaml"}, tt.args...)...)...)
		if code != tt.code || !strings.Contains(errOut, tt.err) {
			t.Errorf("%q: exit %d, %s, want %q", tt.args, code, errOut, tt.err)
		}
		if _, err := os.Stat(w.path("out2")); err == nil {
			t.Fatalf("%q: a failed build left its output", tt.args)
		}
	}
	w.write("small.yaml", "extends: store\n\nmax_size: 100\n")
	if code, _, errOut := w.run(base("-o", "@/out2", "-t", "@/small.yaml")...); code != 1 || !strings.Contains(errOut, "small.yaml:3:11: the image has") {
		t.Errorf("max_size: exit %d, %s", code, errOut)
	}
}

// TestWhy asks manifests beside images and in them.
func TestWhy(t *testing.T) {
	w := newWorld(t)
	w.must(base("-o", "@/out", "--manifest", "@/out.manifest.json", "--sbom", "@/out.spdx.json")...)
	const path = "lib/modules/" + release + "/virtiofs.ko"
	if got := w.must("why", "@/out", path); !strings.Contains(got, "/"+path+": module virtiofs (store:5:5), from ") {
		t.Errorf("why %s: %s", path, got)
	}
	if got := w.must("why", "--json", "@/out", path); !json.Valid([]byte(got)) {
		t.Errorf("JSON %s", got)
	}
	sbom, err := os.ReadFile(w.path("out.spdx.json"))
	if err != nil || !json.Valid(sbom) || !bytes.Contains(sbom, []byte("./init")) {
		t.Errorf("bill of materials %s, %v", sbom, err)
	}
	w.must(base("-o", "@/with", "--embed-manifest")...)
	if got := w.must("why", "@/with", path); strings.Contains(got, "from") || !strings.Contains(got, "module virtiofs (store:5:5)") {
		t.Errorf("why of an image with its manifest: %s", got)
	}
	w.must(base("-o", "@/without")...)
	for _, tt := range []struct{ image, path, err string }{
		{"@/without", path, "--manifest"},
		{"@/out", "/none", "none: no such entry"},
		{"@/none", path, "none"},
	} {
		if code, _, errOut := w.run("why", tt.image, tt.path); code != 1 || !strings.Contains(errOut, tt.err) {
			t.Errorf("why %s %s: exit %d, %s", tt.image, tt.path, code, errOut)
		}
	}
	w.must(base("-o", "@/out", "--compression", "none")...)
	if code, _, errOut := w.run("why", "@/out", path); code != 1 || !strings.Contains(errOut, "another image") {
		t.Errorf("a stale manifest: exit %d, %s", code, errOut)
	}
}

func TestInitTemplate(t *testing.T) {
	w := newWorld(t)
	w.must("init-template", "@/mine.yaml")
	w.must(base("-o", "@/out", "-t", "@/mine.yaml")...)
	if code, _, errOut := w.run("init-template", "@/mine.yaml"); code != 1 || !strings.Contains(errOut, "--force") {
		t.Errorf("a second time: exit %d, %s", code, errOut)
	}
	w.must("init-template", "--force", "--extends", "shell", "@/mine.yaml")
	if code, _, errOut := w.run("init-template", "--extends", "shel", "-"); code != 1 || !strings.Contains(errOut, `did you mean "shell"`) {
		t.Errorf("unknown: exit %d, %s", code, errOut)
	}
	// Every example is one that the parser takes.
	text := w.must("init-template", "-")
	var all []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#"); ok && !strings.HasPrefix(rest, " ") || strings.HasPrefix(line, "#  ") {
			line = strings.TrimPrefix(line, "#")
		}
		all = append(all, line)
	}
	w.write("network.yaml", "description: x\n")
	w.write("all.yaml", strings.Join(all, ""))
	code, _, errOut := w.run(base("-o", "@/out", "-t", "@/all.yaml", "--set", "host=x")...)
	if code == 0 || strings.Contains(errOut, "unknown key") || !strings.Contains(errOut, "all.yaml") && !strings.Contains(errOut, "acpi.cpio") {
		t.Errorf("all examples: exit %d, %s", code, errOut)
	}
}

// TestReproducible builds the same in other directories, at other times, with
// another umask, locale, time zone and number of processors.
func TestReproducible(t *testing.T) {
	build := func() []byte {
		w := newWorld(t)
		w.write("t.yaml", "extends: store\ntrees: [{source: root, path: /data}]\nfiles: [{source: root/b, path: /etc/b}]\n")
		w.write("root/a", strings.Repeat("a", 100_000))
		w.write("root/b", strings.Repeat("b", 50_000))
		w.must(base("-o", "@/out", "-t", "@/t.yaml", "--segment-size", "64K")...)
		data, err := os.ReadFile(w.path("out"))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	first := build()
	t.Setenv("GOMAXPROCS", "1")
	t.Setenv("LC_ALL", "tr_TR.UTF-8")
	t.Setenv("TZ", "Asia/Kathmandu")
	old := syscall.Umask(0o077)
	second := build()
	syscall.Umask(old)
	if !bytes.Equal(first, second) {
		t.Errorf("%d and %d bytes, and they differ", len(first), len(second))
	}
	t.Setenv("SOURCE_DATE_EPOCH", "1000000000")
	if third := build(); bytes.Equal(first, third) {
		t.Error("SOURCE_DATE_EPOCH changes nothing")
	}
	t.Setenv("SOURCE_DATE_EPOCH", "yesterday")
	w := newWorld(t)
	if code, _, errOut := w.run(base("-o", "@/out")...); code != 1 || !strings.Contains(errOut, "SOURCE_DATE_EPOCH") {
		t.Errorf("exit %d, %s", code, errOut)
	}
}

// TestUKI makes a unified kernel image with systemd's stub.
func TestUKI(t *testing.T) {
	if _, err := os.Stat("/usr/lib/systemd/boot/efi/linuxx64.efi.stub"); err != nil {
		t.Skip("SKIP: this machine lacks systemd's stub (apt-get install systemd-boot-efi)")
	}
	w := newWorld(t)
	w.must(base("-o", "@/linux.efi", "--uki", "--cmdline", "console=ttyS0")...)
	w.must(base("-o", "@/initrd")...)
	f, err := pe.Open(w.path("linux.efi"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Section(".initrd") == nil {
		t.Fatal("no section .initrd")
	}
	section, err := f.Section(".initrd").Data()
	if err != nil {
		t.Fatal(err)
	}
	initrd, err := os.ReadFile(w.path("initrd"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(section, initrd) {
		t.Errorf("the section has %d bytes, the initrd %d, and they differ", len(section), len(initrd))
	}
	// What looks into initrds looks into these too.
	if a, b := w.must("ls", "-l", "@/linux.efi"), w.must("ls", "-l", "@/initrd"); a != b {
		t.Errorf("ls: %s\nof the initrd itself: %s", a, b)
	}
	if a, b := w.must("cat", "@/linux.efi", "/etc/storeboot/boot.json"), w.must("cat", "@/initrd", "/etc/storeboot/boot.json"); a != b {
		t.Errorf("cat: %s\nof the initrd itself: %s", a, b)
	}
	w.must("diff", "@/initrd", "@/linux.efi")
	w.must("extract", "@/linux.efi", "-C", "@/out", "--only", "etc/storeboot")
	if _, err := os.Stat(w.path("out/etc/storeboot/boot.json")); err != nil {
		t.Error(err)
	}
	if code, _, errOut := w.run("ls", "/usr/lib/systemd/boot/efi/linuxx64.efi.stub"); code != 1 || !strings.Contains(errOut, "no initrd in it") {
		t.Errorf("a stub: exit %d, %s", code, errOut)
	}
}
