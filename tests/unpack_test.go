package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/unpack"
	"storeboot/mkinitrd/unpack/unpacktest"
)

// unpackedByDefault are the cases that are booted in every run: one for each
// rule that a kernel is likely to change. STOREBOOT_UNPACK=all boots all:
//
//	STOREBOOT_UNPACK=all go test ./tests -run TestUnpackModel
var unpackedByDefault = []string{
	"xz with CRC64", "gzip with an extra field", "microcode, then zstd", "one archive in two frames",
	"zstd, then raw out of place", "lz4, then gzip", "lz4, zeros, gzip", "junk at the end",
	"cut in a file", "cut in init", "gzip with a wrong checksum", "wrong checksum", "name without NUL", "no directory",
	"odd names", "modes and owners", "replaced", "full directory in place", "links, data last", "link to nothing",
}

// TestUnpackModel boots broken images and holds that mkinitrd's model of the
// kernel's unpacker says what the kernel does: whether it boots, what it
// prints, and every file with its mode, owner and content.
func TestUnpackModel(t *testing.T) {
	needVM(t)
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	bin := filepath.Join(t.TempDir(), "listinit")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./listinit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(bin)
	if err != nil {
		t.Fatal(err)
	}
	all := os.Getenv("STOREBOOT_UNPACK") == "all"
	booted := 0
	// Two VMs at once: more gain nothing where the CPU is emulated.
	slots := make(chan struct{}, 2)
	t.Run("case", func(t *testing.T) {
		for _, c := range unpacktest.Cases(string(program)) {
			if !all && !slices.Contains(unpackedByDefault, c.Name) {
				continue
			}
			booted++
			t.Run(c.Name, func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				compareUnpacked(t, kernels[0], c)
			})
		}
	})
	if !all && booted != len(unpackedByDefault) {
		t.Errorf("%d cases were booted, %d are named", booted, len(unpackedByDefault))
	}
}

var unpackFailed = regexp.MustCompile(`Initramfs unpacking failed: ([^\r\n]*)`)

func compareUnpacked(t *testing.T, kernel string, c unpacktest.Case) {
	image := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(image, []byte(c.Image), 0o644); err != nil {
		t.Fatal(err)
	}
	console := bootImage(t, kernel, image)
	_, after, boots := strings.Cut(console, "\nBEGIN\n")
	listing, _, whole := strings.Cut(after, "END\n")
	if boots && !whole {
		t.Fatalf("the listing has no end: %s", console)
	}
	if boots != c.Boots || !boots && !strings.Contains(console, "Kernel panic") {
		t.Errorf("the kernel boots: %v, want %v; console %s", boots, c.Boots, console)
	}
	spool := new(unpack.Spool)
	defer spool.Close()
	r, err := unpack.Run(strings.NewReader(c.Image), unpack.Kernel{}, spool)
	if err != nil {
		t.Fatal(err)
	}
	message := ""
	if m := unpackFailed.FindStringSubmatch(console); m != nil {
		message = m[1]
	}
	// The decompressors have words of their own.
	if message != r.Message && !(r.Message == unpack.MsgDecode && message != "") {
		t.Errorf("the kernel says %q, the model %q (%s)", message, r.Message, r.Cause)
	}
	if !boots {
		return
	}
	var b strings.Builder
	for path, n := range r.Tree.All() {
		b.WriteString(unpackedLine(t, r.Tree, path, n))
	}
	want := strings.Split(b.String(), "\n")
	got := strings.Split(listing, "\n")
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the kernel has\n%s\nthe model\n%s", without(got, want), without(want, got))
	}
}

// without are the lines of a that b lacks.
func without(a, b []string) string {
	return strings.Join(slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) }), "\n")
}

// unpackedLine is what listinit prints.
func unpackedLine(t *testing.T, tree *unpack.Tree, path string, n *unpack.Node) string {
	t.Helper()
	size, content, links := int64(0), "", n.NLink
	switch n.Type() {
	case newc.TypeRegular:
		data, err := io.ReadAll(tree.Open(n))
		if err != nil {
			t.Fatal(err)
		}
		size, content = n.Size, fmt.Sprintf("%x", sha256.Sum256(data))[:16]
	case newc.TypeSymlink:
		size, content = n.Size, n.Target
	case newc.TypeDirectory:
		links = 2
		for p, c := range tree.All() {
			if c.IsDir() && filepath.Dir(p) == path {
				links++
			}
		}
	}
	major, minor := n.RDevMajor, n.RDevMinor
	if n.Type() != newc.TypeBlock && n.Type() != newc.TypeChar {
		major, minor = 0, 0
	}
	return fmt.Sprintf("%q %o %d:%d %d %d,%d %d %q\n", path, n.Mode, n.UID, n.GID, links, major, minor, size, content)
}

// bootImage boots a kernel with an initrd until it ends, and returns the
// console.
func bootImage(t *testing.T, kernel, initrd string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 4*bootLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", "tcg", "-cpu", "max",
		"-M", "q35,usb=off,sata=off,smbus=off,vmport=off", "-m", "256",
		"-nodefaults", "-display", "none", "-no-reboot", "-serial", "stdio",
		"-kernel", kernel, "-initrd", initrd, "-append", "console=ttyS0 panic=-1 reboot=t loglevel=4 nokaslr no_timer_check")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("qemu: %v\n%s", err, out.String())
	}
	return strings.ReplaceAll(out.String(), "\r\n", "\n")
}
