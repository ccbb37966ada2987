package main

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/mkinitrd/compare"
)

// needTool fails where CI is set, and skips elsewhere, if the machine lacks a
// tool.
func needTool(t *testing.T, name, pkg string) string {
	t.Helper()
	tool, err := exec.LookPath(name)
	if err == nil {
		return tool
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("this machine lacks %s (apt-get install %s)", name, pkg)
	}
	t.Skipf("SKIP: this machine lacks %s (apt-get install %s)", name, pkg)
	return ""
}

// sampleTree has a file of each kind that any user can make.
func sampleTree(w *world) string {
	w.t.Helper()
	w.write("tree/etc/passwd", "root:x:0:0::/root:/bin/sh\n")
	w.write("tree/etc/motd", strings.Repeat("welcome\n", 1000))
	w.write("tree/bin/tool", "#!/bin/sh\n")
	for _, err := range []error{
		os.Chmod(w.path("tree/bin/tool"), 0o755),
		os.Symlink("passwd", w.path("tree/etc/link")),
		os.Link(w.path("tree/etc/motd"), w.path("tree/etc/second")),
		os.Mkdir(w.path("tree/empty"), 0o700),
	} {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return w.path("tree")
}

// pipe runs a shell command in the tree and returns its output.
func pipe(t *testing.T, dir, command string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", command)
	var errOut bytes.Buffer
	cmd.Dir, cmd.Stderr = dir, &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, errOut.String())
	}
	return string(out)
}

// TestPeers reads what other tools make, and compares what is extracted with
// what went in.
func TestPeers(t *testing.T) {
	for _, tt := range []struct{ name, tool, pkg, command string }{
		{"GNU cpio", "cpio", "cpio", "find . | cpio -o -H newc --quiet"},
		{"GNU cpio, crc", "cpio", "cpio", "find . | sort -r | cpio -o -H crc --quiet"},
		{"bsdcpio", "bsdcpio", "libarchive-tools", "find . | bsdcpio -o -H newc 2>/dev/null"},
		{"gzip", "gzip", "gzip", "find . | cpio -o -H newc --quiet | gzip -9"},
		{"xz", "xz", "xz-utils", "find . | cpio -o -H newc --quiet | xz --check=crc32"},
		{"lzma", "xz", "xz-utils", "find . | cpio -o -H newc --quiet | xz --format=lzma"},
		{"zstd", "zstd", "zstd", "find . | cpio -o -H newc --quiet | zstd -q -19 -T0"},
		{"lz4", "lz4", "lz4", "find . | cpio -o -H newc --quiet | lz4 -lq"},
		{"bzip2", "bzip2", "bzip2", "find . | cpio -o -H newc --quiet | bzip2"},
		{"two segments", "zstd", "zstd", "echo etc | cpio -o -H newc --quiet; find . | cpio -o -H newc --quiet | zstd -q"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needTool(t, "cpio", "cpio")
			needTool(t, tt.tool, tt.pkg)
			w := newWorld(t)
			w.write("image", pipe(t, sampleTree(w), tt.command))
			w.must("extract", "@/image", "-C", "@/out")
			if out, err := exec.Command("diff", "-r", "--no-dereference", w.path("tree"), w.path("out")).CombinedOutput(); err != nil {
				t.Errorf("what came out is not what went in: %v\n%s", err, out)
			}
			a, errA := os.Stat(w.path("out/etc/motd"))
			b, errB := os.Stat(w.path("out/etc/second"))
			if errA != nil || errB != nil || !os.SameFile(a, b) {
				t.Error("two names of one file became two files")
			}
			if st, err := os.Stat(w.path("out/empty")); err != nil || st.Mode() != fs.ModeDir|0o700 {
				t.Errorf("empty: %v, %v", st, err)
			}
			if got := w.must("cat", "@/image", "/etc/second"); len(got) != 8000 {
				t.Errorf("cat: %d bytes", len(got))
			}
		})
	}
}

// TestOursByPeers has other tools list what we build. lsinitramfs takes an archive
// that is not compressed for microcode alone, and is not asked about it.
func TestOursByPeers(t *testing.T) {
	for _, tt := range []struct{ name, tool, pkg, codec, command string }{
		{"GNU cpio", "cpio", "cpio", "none", "cpio -it --quiet <out"},
		{"lsinitramfs, zstd", "lsinitramfs", "initramfs-tools-core", "zstd", "lsinitramfs out"},
		{"zstd and GNU cpio", "zstd", "zstd", "zstd", "zstd -dc out | cpio -it --quiet"},
		{"lsinitramfs, gzip", "lsinitramfs", "initramfs-tools-core", "gzip", "lsinitramfs out"},
		{"bsdcpio", "bsdcpio", "libarchive-tools", "none", "bsdcpio -it <out 2>/dev/null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			needTool(t, tt.tool, tt.pkg)
			w := newWorld(t)
			w.must(base("-o", "@/out", "--compression", tt.codec)...)
			want := strings.Split(strings.TrimSpace(w.must("ls", "@/out")), "\n")
			got := strings.Split(strings.TrimSpace(pipe(t, w.dir, tt.command)), "\n")
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("it lists %q, we %q", got, want)
			}
		})
	}
}

// TestMkinitramfs looks into an initrd that Debian's builder has made of this
// machine.
func TestMkinitramfs(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: unpacks a whole initrd several times")
	}
	images, _ := filepath.Glob("/boot/initrd.img-*-cloud-*")
	if len(images) == 0 {
		t.Skip("SKIP: this machine has no initrd in /boot")
	}
	needTool(t, "lsinitramfs", "initramfs-tools-core")
	w := newWorld(t)
	got := w.must("ls", images[0])
	for _, name := range strings.Fields(pipe(t, w.dir, "lsinitramfs "+images[0])) {
		if !strings.Contains(got, name) {
			t.Errorf("the list lacks %s", name)
		}
	}
	kernel := strings.Replace(images[0], "initrd.img", "vmlinuz", 1)
	if out := w.must("check", images[0], "--kernel", kernel); !strings.HasPrefix(out, "ok: ") {
		t.Errorf("check: %s", out)
	}
}

func TestListPatterns(t *testing.T) {
	w := newWorld(t)
	w.must(base("-o", "@/out")...)
	for args, want := range map[string]string{
		"init": "init\n", "/dev": "dev\ndev/console\ndev/null\n", "d*v/null": "dev/null\n",
		"*.json": "etc/storeboot/boot.json\n",
	} {
		if got := w.must("ls", "@/out", args); got != want {
			t.Errorf("ls %s: %q, want %q", args, got, want)
		}
	}
	if code, _, errOut := w.run("ls", "@/out", "[x"); code != 2 || !strings.Contains(errOut, "[x") {
		t.Errorf("bad pattern: exit %d, %s", code, errOut)
	}
	if code, _, errOut := w.run("ls", "@/out", "none"); code != 1 || !strings.Contains(errOut, "nothing in it matches none") {
		t.Errorf("no match: exit %d, %s", code, errOut)
	}
	w.must("extract", "@/out", "-C", "@/part", "--only", "etc/storeboot")
	if list, _ := filepath.Glob(w.path("part/*")); len(list) != 1 {
		t.Errorf("extracted %q", list)
	}
}

// TestExtractLinked extracts one name of a file whose data is under another.
func TestExtractLinked(t *testing.T) {
	needTool(t, "cpio", "cpio")
	w := newWorld(t)
	w.write("t/a/one", "shared")
	w.write("t/b/x", "")
	if err := os.Link(w.path("t/a/one"), w.path("t/b/two")); err != nil {
		t.Fatal(err)
	}
	for i, order := range []string{"a a/one b b/two", "b b/two a a/one"} {
		w.write("image", pipe(t, w.path("t"), "printf '%s\\n' "+order+" | cpio -o -H newc --quiet"))
		dir := "@/out" + string(rune('0'+i))
		w.must("extract", "@/image", "-C", dir, "--only", "b")
		if got, err := os.ReadFile(w.path("out" + string(rune('0'+i)) + "/b/two")); err != nil || string(got) != "shared" {
			t.Errorf("%s: %q, %v", order, got, err)
		}
	}
}

func TestDiff(t *testing.T) {
	needTool(t, "cpio", "cpio")
	w := newWorld(t)
	tree := sampleTree(w)
	const pack = "find . | cpio -o -H newc --quiet | gzip"
	w.write("old", pipe(t, tree, pack))
	if out := w.must("diff", "@/old", "@/old"); out != "" {
		t.Errorf("no difference: %s", out)
	}
	w.write("tree/etc/passwd", "root:x:0:0::/root:/bin/bash\nuser:x:1::/:\n")
	w.write("tree/new", "x")
	for _, err := range []error{
		os.Remove(w.path("tree/empty")), os.Remove(w.path("tree/etc/link")), os.Symlink("motd", w.path("tree/etc/link")),
		os.Chmod(w.path("tree/bin/tool"), 0o700),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	w.write("new", pipe(t, tree, pack))
	code, out, errOut := w.run("diff", "@/old", "@/new")
	want := `~ /bin/tool: mode 0755 -> 0700
- /empty: directory
~ /etc/link: target passwd -> motd
~ /etc/passwd: size 26 -> 41 (+15)
    line 1 is the first; 1 lines are gone, 2 new
    - root:x:0:0::/root:/bin/sh
    + root:x:0:0::/root:/bin/bash
+ /new: file, 1 bytes
1 added, 1 removed, 3 changed; +16 bytes
`
	if code != 1 || out != want || errOut != "" {
		t.Errorf("exit %d, stderr %s, got\n%swant\n%s", code, errOut, out, want)
	}
	code, out, _ = w.run("diff", "--json", "@/old", "@/new")
	var list []compare.Difference
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 1 || len(list) != 5 || list[4].Change != compare.Added {
		t.Errorf("exit %d, %v, %+v", code, err, list)
	}
	data, err := os.ReadFile(w.path("new"))
	if err != nil {
		t.Fatal(err)
	}
	w.write("cut", string(data[:len(data)/2]))
	if code, _, errOut := w.run("diff", "@/old", "@/cut"); code != 2 || !strings.Contains(errOut, "cut: segment 0") {
		t.Errorf("damaged: exit %d, %s", code, errOut)
	}
}

func TestSize(t *testing.T) {
	w := newWorld(t)
	w.write("big", strings.Repeat("b", 200_000))
	w.write("t.yaml", "description: x\nextends: store\nfiles: [{source: big, path: /usr/share/big}]\n")
	w.must(base("-t", "@/t.yaml", "-o", "@/out")...)
	out := w.must("size", "@/out", "--html", "@/size.html")
	for _, want := range []string{"zstd", "195.3 KiB", "usr/", "  share/", "    big"} {
		if !strings.Contains(out, want) {
			t.Errorf("the report lacks %q:\n%s", want, out)
		}
	}
	if page, err := os.ReadFile(w.path("size.html")); err != nil || !bytes.Contains(page, []byte("/usr/share/big")) {
		t.Errorf("page of %d bytes, %v", len(page), err)
	}
	var r sizeReport
	if err := json.Unmarshal([]byte(w.must("size", "--json", "@/out")), &r); err != nil || len(r.Segments) != 1 || r.Unpacked < 200_000 || r.Size < 100 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, args := range [][]string{{"--depth", "0"}, {"--least", "101"}} {
		if code, _, _ := w.run(append([]string{"size", "@/out"}, args...)...); code != 2 {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}

func TestCheckCommand(t *testing.T) {
	w := newWorld(t)
	w.must(base("-o", "@/out")...)
	// The world's modules are text.
	code, out, errOut := w.run("check", "@/out", "--kernel", "@/boot/vmlinuz")
	if code != 1 || !strings.Contains(out, "error: /lib/modules/"+release) || !strings.Contains(errOut, "would not boot") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	code, out, _ = w.run("check", "--json", "@/out", "--kernel", "@/boot/vmlinuz")
	var r checkResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Boots || r.Release != release || len(r.Findings) < 3 {
		t.Errorf("exit %d, %v: %+v", code, err, r)
	}
	// A build says so, and leaves nothing.
	args := slices.DeleteFunc(base("-o", "@/checked"), func(s string) bool { return s == "--no-check" })
	if code, _, errOut := w.run(args...); code != 1 || !strings.Contains(errOut, "--no-check") {
		t.Errorf("build: exit %d, %s", code, errOut)
	}
	if _, err := os.Stat(w.path("checked")); err == nil {
		t.Error("the build left its output")
	}
	w.write("none.yaml", "description: x\n")
	w.must("build", "-t", "@/none.yaml", "--init", "@/init", "--kernel", "@/boot/vmlinuz", "-o", "@/small")
	if out := w.must("check", "@/small", "--kernel", "@/boot/vmlinuz"); !strings.Contains(out, "ok: nothing found") {
		t.Errorf("check: %s", out)
	}
	if out := w.must("check", "@/small"); !strings.Contains(out, "note: ") {
		t.Errorf("check without a kernel: %s", out)
	}
	for _, tt := range []struct{ args, want string }{
		{"check @/none", "none"}, {"check @/small --kernel @/none", "none"}, {"check @/small --config @/none.yaml", "none.yaml"},
	} {
		if code, _, errOut := w.run(strings.Fields(tt.args)...); code != 1 || !strings.Contains(errOut, tt.want) {
			t.Errorf("%s: exit %d, %s", tt.args, code, errOut)
		}
	}
}

// BenchmarkCheck checks the initrd that Debian made of this machine; the floor
// unpacks it.
func BenchmarkCheck(b *testing.B) {
	images, _ := filepath.Glob("/boot/initrd.img-*-cloud-*")
	if len(images) == 0 {
		b.Skip("SKIP: this machine has no initrd in /boot")
	}
	w := &world{b, b.TempDir()}
	kernel := strings.Replace(images[0], "initrd.img", "vmlinuz", 1)
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			w.must("check", images[0], "--kernel", kernel)
		}
	})
	b.Run("floor-zstd", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("zstd", "-dcqf", "-o", os.DevNull, images[0]).Run(); err != nil {
				b.Skip("SKIP: not one zstd stream")
			}
		}
	})
}
