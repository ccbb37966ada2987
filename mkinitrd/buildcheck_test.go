package main

import (
	"bytes"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/mkinitrd/gobuild"
)

// TestKeptCheck holds that a check is not made again for the same image and
// kernel, and is for all others.
func TestKeptCheck(t *testing.T) {
	w := newWorld(t)
	cache, err := gobuild.NewCache(w.path("cache"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("boot/config-"+release, "CONFIG_BLK_DEV_INITRD=y\nCONFIG_BINFMT_ELF=y\n")
	w.must("build", "--no-check", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "--no-modules", "-o", "@/out", "--compression", "none")
	data, err := os.ReadFile(w.path("out"))
	if err != nil {
		t.Fatal(err)
	}
	// Without our init's plan, it needs nothing of the kernel.
	boots := strings.Replace(string(data), "etc/storeboot/boot.json\x00", "etc/storeboot/boot.jsoX\x00", 1)
	k := &kernel{path: w.path("boot/vmlinuz"), release: release, arch: "amd64"}
	check := func(key, image string) (bool, error) {
		t.Helper()
		c, err := startCheck(k, key, cache)
		if err != nil {
			t.Fatal(err)
		}
		defer c.stop()
		if _, err := io.WriteString(c, image); err != nil {
			t.Fatal(err)
		}
		return c.known != nil, c.finish(slog.New(slog.DiscardHandler))
	}
	again := func(what string, want bool) {
		t.Helper()
		if known, err := check("a", boots); known != want || err != nil {
			t.Errorf("%s: known %v, want %v; %v", what, known, want, err)
		}
	}
	again("first", false)
	again("second", true)
	if _, err := check("a", boots[:len(boots)-4]); err == nil || !strings.Contains(err.Error(), w.path("cache")) {
		t.Errorf("other bytes of the same input: %v", err)
	}
	if known, err := check("b", boots); known || err != nil {
		t.Errorf("another image: known %v, %v", known, err)
	}
	w.write("boot/config-"+release, "CONFIG_BLK_DEV_INITRD=y\nCONFIG_BINFMT_ELF=y\nCONFIG_RD_ZSTD=y\n")
	again("another configuration", false)
	again("and again", true)
	k.release += "2"
	again("another release", false)
	files, _ := filepath.Glob(w.path("cache/*-" + verdictName))
	if len(files) == 0 {
		t.Fatal("nothing was kept")
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(`{"sum`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again("a damaged file", false)
	// What would not boot is never taken for good.
	for range 2 {
		if known, err := check("c", "junk"); known || err == nil || !strings.Contains(err.Error(), "would not boot") {
			t.Errorf("known %v, %v", known, err)
		}
	}
}

// TestCheckedTwice builds with the check, twice: the second time takes what the
// first has found.
func TestCheckedTwice(t *testing.T) {
	w := newWorld(t)
	args := func(out string) []string {
		return []string{"build", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "--no-modules", "--embed-manifest", "-o", out}
	}
	w.must(args("@/a")...)
	w.must(args("@/b")...)
	a, errA := os.ReadFile(w.path("a"))
	b, errB := os.ReadFile(w.path("b"))
	if errA != nil || errB != nil || !bytes.Equal(a, b) {
		t.Errorf("two builds differ: %v, %v", errA, errB)
	}
	// A damaged segment of the cache is found out.
	segments, _ := filepath.Glob(w.path("cache/storeboot/mkinitrd/*-segment"))
	if len(segments) == 0 {
		t.Fatal("no segment was kept")
	}
	for _, s := range segments {
		if err := os.WriteFile(s, a[:40], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, _, errOut := w.run(args("@/c")...)
	if _, err := os.Stat(w.path("c")); code != 1 || !strings.Contains(errOut, "damaged") || err == nil {
		t.Errorf("exit %d, %s, %v", code, errOut, err)
	}
}
