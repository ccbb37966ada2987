package kbuild

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storeboot/internal/kconfig"
	"storeboot/kernelconfig/fragment"
)

// toyMakefile is the makefile of a source that obeys the kernel's conventions for
// builds out of tree. It drops option DROPPED, and fails where BROKEN is on.
const toyMakefile = `VERSION = 6
PATCHLEVEL = 1
SUBLEVEL = 192
EXTRAVERSION = -toy
.PHONY: allnoconfig bzImage

allnoconfig:
	grep -v CONFIG_DROPPED $(KCONFIG_ALLCONFIG) > $(O)/.config
bzImage:
	mkdir -p $(O)/arch/x86/boot/compressed
	@echo '  CC      kernel/fork.o'
	@! grep -q CONFIG_BROKEN=y $(O)/.config || { echo 'fork.c:1: error: broken'; exit 1; }
	cat bzImage $(O)/.config > $(O)/arch/x86/boot/bzImage
	echo "$$KBUILD_BUILD_USER $$KBUILD_BUILD_TIMESTAMP $$USER" >> $(O)/arch/x86/boot/bzImage
	cp vmlinux $(O)/arch/x86/boot/compressed/vmlinux.bin
`

// toySource is a source whose build takes no time.
func toySource(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"make", "gcc", "tar", "xz", "perl"} {
		if _, err := exec.LookPath(program); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing", program)
			}
			t.Skipf("SKIP: %s is missing (apt-get install make gcc tar xz-utils perl)", program)
		}
	}
	stubs := t.TempDir() // the toy needs none of these
	writeTree(t, stubs, map[string]string{"flex": "#!/bin/sh\n", "bison": "#!/bin/sh\n", "bc": "#!/bin/sh\n"})
	t.Setenv("PATH", stubs+":"+os.Getenv("PATH"))
	image := make([]byte, 0x1000)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(image[0x20e:], 0x400)
	image[0x236] = 1
	copy(image[0x600:], "6.1.192-storeboot (a@b)\x00")
	// The least ELF header for x86-64, with a banner behind it.
	elf := make([]byte, 64)
	copy(elf, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint16(elf[16:], 2)
	binary.LittleEndian.PutUint16(elf[18:], 62)
	binary.LittleEndian.PutUint32(elf[20:], 1)
	binary.LittleEndian.PutUint16(elf[52:], 64)
	binary.LittleEndian.PutUint16(elf[54:], 56)
	binary.LittleEndian.PutUint16(elf[58:], 64)
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"Makefile": toyMakefile, "bzImage": string(image), "vmlinux": string(elf) + "Linux version 6.1.192-storeboot (a@b)",
		"Kconfig": "config DROPPED\n\tbool \"dropped\"\n\tdepends on A\nconfig A\n\tbool \"a\"\n",
	})
	return dir
}

func toyOptions(t *testing.T, source string) Options {
	return Options{
		Source: source, Arch: fragment.AMD64, Cross: "", Cache: t.TempDir(), Jobs: 1,
		Fragment: fragment.Fragment{Name: "toy", Options: []fragment.Option{{Name: "A", Why: "x"}}},
	}
}

func TestBuild(t *testing.T) {
	ctx := context.Background()
	source := toySource(t)
	o := toyOptions(t, source)
	var lines []string
	o.Line = func(l string) { lines = append(lines, l) }
	first, err := Build(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Cached || first.Manifest.Version != "6.1.192-toy" || first.Manifest.Release != "6.1.192-storeboot" || first.Manifest.Options != 2+len(fragment.Base(fragment.AMD64)) {
		t.Errorf("result %+v", first)
	}
	if !strings.Contains(strings.Join(lines, "\n"), "kernel/fork.o") {
		t.Errorf("lines %q", lines)
	}
	if _, ok := first.Manifest.Files["config-6.1.192-storeboot"]; !ok {
		t.Errorf("files %v", first.Manifest.Files)
	}
	again, err := Build(ctx, o)
	if err != nil || !again.Cached || again.Dir != first.Dir {
		t.Errorf("again: %+v, %v", again, err)
	}

	// From an archive, in another directory and by another user the kernel is the
	// same, bit for bit.
	archive := filepath.Join(t.TempDir(), "linux.tar.xz")
	if out, err := exec.Command("tar", "-C", filepath.Dir(source), "-cJf", archive, filepath.Base(source)).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	other := toyOptions(t, archive)
	t.Setenv("HOME", t.TempDir())
	t.Setenv("USER", "somebody")
	second, err := Build(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range first.Manifest.Files {
		if second.Manifest.Files[name] != f {
			t.Errorf("%s differs: %+v, %+v", name, f, second.Manifest.Files[name])
		}
	}
	left, _ := filepath.Glob(filepath.Join(o.Cache, "*-*"))
	if len(left) != 0 {
		t.Errorf("left in the cache: %q", left)
	}
}

func TestBuildOnce(t *testing.T) {
	source := toySource(t)
	o := toyOptions(t, source)
	var wait sync.WaitGroup
	built := make(chan *Result, 4)
	for range 4 {
		wait.Go(func() {
			r, err := Build(context.Background(), o)
			if err != nil {
				t.Error(err)
				return
			}
			built <- r
		})
	}
	wait.Wait()
	close(built)
	fresh := 0
	for r := range built {
		if !r.Cached {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("built %d times, want once", fresh)
	}
}

func TestBuildFails(t *testing.T) {
	source := toySource(t)
	with := func(name string, v kconfig.Value) Options {
		o := toyOptions(t, source)
		o.Set = map[string]kconfig.Value{name: v}
		return o
	}
	noSource := toyOptions(t, t.TempDir())
	missing := toyOptions(t, source+"-none")
	noCompiler := toyOptions(t, source)
	noCompiler.Cross = "no-such-"
	damaged := toyOptions(t, source)
	r, err := Build(context.Background(), damaged)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Dir, "bzImage"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	used := toySource(t)
	writeTree(t, used, map[string]string{".config": ""})
	for name, tt := range map[string]struct {
		o   Options
		err string
	}{
		"dropped":           {with("DROPPED", kconfig.Yes), "CONFIG_DROPPED is n instead of y: another option"},
		"compiler":          {with("BROKEN", kconfig.Yes), "ended with status 2: fork.c:1: error: broken"},
		"no source":         {noSource, "no kernel source: it has no Makefile"},
		"missing":           {missing, "no such file"},
		"no compiler":       {noCompiler, "no-such-gcc"},
		"damaged in cache":  {damaged, "is not what was built"},
		"source built once": {toyOptions(t, used), "make mrproper"},
	} {
		_, err := Build(context.Background(), tt.o)
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", name, err, tt.err)
		}
	}
	o := with("BROKEN", kconfig.Yes)
	_, err = Build(context.Background(), o)
	logs, _ := filepath.Glob(filepath.Join(o.Cache, "*.log"))
	if len(logs) != 1 || err == nil || !strings.Contains(err.Error(), logs[0]) {
		t.Fatalf("logs %q, error %v", logs, err)
	}
	if text, err := os.ReadFile(logs[0]); err != nil || !bytes.Contains(text, []byte("kernel/fork.o")) {
		t.Errorf("the log is %q, %v", text, err)
	}
}

func TestBuildStops(t *testing.T) {
	source := toySource(t)
	writeTree(t, source, map[string]string{"Makefile": strings.Replace(toyMakefile, "bzImage:\n", "bzImage:\n\t@echo started; sleep 1000\n", 1)})
	o := toyOptions(t, source)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o.Line = func(l string) {
		if l == "started" {
			cancel()
		}
	}
	if _, err := Build(ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(o.Cache, "*"))
	if len(left) != 1 || filepath.Ext(left[0]) != ".lock" {
		t.Errorf("left behind: %q", left)
	}
}

func TestLock(t *testing.T) {
	source := toySource(t)
	o := toyOptions(t, source)
	o.Lock = filepath.Join(t.TempDir(), "kernel.lock")
	if _, err := Build(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	l, err := ReadLock(o.Lock)
	if err != nil || l.Kernel != "6.1.192-toy" || l.Fragments != "toy" {
		t.Fatalf("lock %+v, %v", l, err)
	}
	if _, err := Build(context.Background(), o); err != nil {
		t.Errorf("the same again: %v", err)
	}
	changed := o
	changed.Set = map[string]kconfig.Value{"A": kconfig.No}
	if _, err := Build(context.Background(), changed); err == nil || !strings.Contains(err.Error(), "options: locked") {
		t.Errorf("other options: %v", err)
	}
	changed.UpdateLock = true
	if _, err := Build(context.Background(), changed); err != nil {
		t.Errorf("update: %v", err)
	}
	if _, err := Build(context.Background(), o); err == nil {
		t.Error("the lock was not updated")
	}
	for _, text := range []string{"", "{", `{"version":1,"more":2}`, `{"version":2}`} {
		if err := os.WriteFile(o.Lock, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadLock(o.Lock); err == nil {
			t.Errorf("lock %q is taken", text)
		}
	}
}

// TestFragmentsOfLinux configures a real kernel with each fragment: none asks for
// an option without what it depends on. STOREBOOT_LINUX_SOURCE names the source's
// directory; ./check does not have it.
func TestFragmentsOfLinux(t *testing.T) {
	dir := os.Getenv("STOREBOOT_LINUX_SOURCE")
	if dir == "" {
		t.Skip("SKIP: STOREBOOT_LINUX_SOURCE does not name a directory with the source of Linux")
	}
	for _, arch := range []fragment.Arch{fragment.AMD64, fragment.ARM64} {
		t.Run(string(arch), func(t *testing.T) {
			tools, err := findToolchain(t.Context(), arch, "")
			if err != nil {
				t.Skip("SKIP: ", err)
			}
			for _, names := range [][]string{{"virtiofs"}, {"cloud-hypervisor"}, {"qemu"}, {"systemd"}, {"nixos"}, {"container"}, {"debug"}, fragment.Names()} {
				f, err := fragment.Get(arch, names...)
				if err != nil {
					t.Fatal(err)
				}
				var log bytes.Buffer
				o := Options{Fragment: f, Arch: arch, Jobs: 2}
				b := &build{Options: o, tools: tools, text: o.config(), runner: runner{env: environment(tools, t.TempDir()), log: &log}}
				c, err := b.configure(t.Context(), dir, filepath.Join(t.TempDir(), "out"))
				if err != nil {
					t.Errorf("%s: %v", names, err)
					continue
				}
				for _, x := range f.Check(c) {
					if x.Bad() {
						t.Errorf("%s: %s is %s", names, x.Option.Name, x.Value)
					}
				}
				if c.Get("EXPERT") != kconfig.Yes || c.Get("KALLSYMS") == kconfig.Yes && c.Get("DEBUG_FS") != kconfig.Yes {
					t.Errorf("%s: what nobody asked for is on", names)
				}
			}
		})
	}
}

// TestBaseGivesWay holds that what a user asks for goes before how we would make
// the kernel, also where Kconfig lets only one of several be.
func TestBaseGivesWay(t *testing.T) {
	o := toyOptions(t, toySource(t))
	o.Set = map[string]kconfig.Value{"EXPERT": kconfig.No, "KERNEL_XZ": kconfig.Yes}
	r, err := Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(r.Dir, "config-6.1.192-storeboot"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(line string) int { return bytes.Index(text, []byte(line+"\n")) }
	if ours, theirs := at("CONFIG_EXPERT=y"), at("# CONFIG_EXPERT is not set"); ours < 0 || ours > theirs {
		t.Errorf("Kconfig is given %s", text)
	}
	if ours, theirs := at("CONFIG_KERNEL_ZSTD=y"), at("CONFIG_KERNEL_XZ=y"); ours < 0 || ours > theirs {
		t.Errorf("Kconfig is given %s", text)
	}
}
