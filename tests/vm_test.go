package tests

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestRunHello is the main job: a closure that Nix built, in a VM.
func TestRunHello(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	hello := w.addHello()
	r := w.run(nil, "launcher", "run", hello+"/bin/hello")
	if r.code != 0 || r.stdout != "Hello, world!\n" || r.stderr != "" {
		t.Fatalf("got %s", r)
	}
	r = w.run(nil, "launcher", "run", hello+"/bin/hello", "--greeting=a  'b' \"c\" $d")
	if r.code != 0 || r.stdout != "a  'b' \"c\" $d\n" {
		t.Fatalf("with an argument: %s", r)
	}
}

// TestFind holds that find lists exactly what is in the store.
func TestFind(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	tree := filepath.Join(t.TempDir(), "odd-names")
	for _, name := range []string{"a b", "ünï", "deep/er/and/deeper/file", "empty-dir/"} {
		path := filepath.Join(tree, name)
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("deep/er", filepath.Join(tree, "link")); err != nil {
		t.Fatal(err)
	}
	many := filepath.Join(t.TempDir(), "many")
	if err := os.Mkdir(many, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 3000 { // more than one reply holds
		if err := os.WriteFile(filepath.Join(many, strings.Repeat("n", 1+i%200)+"-"+string(rune('a'+i%26))+strings.Repeat("x", i/200)), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"/nix/store"}
	for _, dir := range []string{tree, many} {
		path := strings.TrimSpace(w.must("virtiofsd", "import", dir))
		err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
			want = append(want, path+strings.TrimPrefix(p, dir))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	r := w.run(nil, "launcher", "find")
	got := strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n")
	slices.Sort(got)
	slices.Sort(want)
	if r.code != 0 || !slices.Equal(got, want) {
		t.Fatalf("exit %d, %d paths, want %d; stderr %s", r.code, len(got), len(want), r.stderr)
	}
	// The original's way to say it, with everything on one console.
	r = w.run([]string{"CH_CMDLINE=tvix.find", "CH_MEM_SIZE=384M", "CH_NUM_CPUS=1"}, "launcher")
	if r.code != 0 || !strings.Contains(r.stdout, want[1]) {
		t.Fatalf("CH_CMDLINE=tvix.find: %s", r)
	}
}

// TestRun runs one program in many ways.
func TestRun(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	pattern := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(i)
		}
		return string(b)
	}
	tests := []struct {
		name   string
		args   []string
		code   int
		stdout func(string) bool
		stderr string
	}{
		{"exit status", []string{prog, "exit", "3"}, 3, is(""), ""},
		{"signal", []string{prog, "kill", "15"}, 128 + 15, is(""), ""},
		{"arguments", []string{prog, "args", "a b", "", "line\nbreak", `"quoted"`, "'single'", "--help", "ünï"}, 0,
			is("\"a b\"\n\"\"\n\"line\\nbreak\"\n\"\\\"quoted\\\"\"\n\"'single'\"\n\"--help\"\n\"ünï\"\n"), ""},
		{"environment", []string{"--env", "GREETING=good day", "--dir", "/nix/store", prog, "env"}, 0, func(s string) bool {
			return strings.Contains(s, "GREETING=good day\n") && strings.Contains(s, "\ndir /nix/store\n") && strings.Contains(s, "PATH=")
		}, ""},
		{"no input", []string{prog, "stdin"}, 0, is("bytes 0\n"), ""},
		{"output unchanged", []string{prog, "bytes", "1000000"}, 0, is(pattern(1000000)), ""},
		{"orphans", []string{prog, "orphans", "100"}, 0, is("left 100\n"), ""},
		{"store is read-only", []string{prog, "write", filepath.Dir(prog) + "/x"}, 1, is(""), "read-only file system"},
		{"outputs apart", []string{prog, "both"}, 0, is("to stdout\n"), "to stderr\n"},
		{"two CPUs", []string{"--cpus", "2", prog, "exit", "4"}, 4, is(""), ""},
		{"missing program", []string{filepath.Dir(prog) + "/none"}, 127, is(""), "bin/none"},
		{"not a program", []string{filepath.Dir(prog) + "/data"}, 126, is(""), "bin/data"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := w.run(nil, "launcher", append([]string{"run"}, tt.args...)...)
			if r.code != tt.code || !tt.stdout(r.stdout) || !strings.Contains(r.stderr, tt.stderr) || tt.stderr == "" && r.stderr != "" {
				if len(r.stdout) > 2000 {
					r.stdout = r.stdout[:2000] + "..."
				}
				t.Errorf("want exit %d: %s", tt.code, r)
			}
			if lines := strings.Count(r.stderr, "\n"); lines > 1 {
				t.Errorf("%d lines on stderr, want one: %s", lines, r.stderr)
			}
		})
	}
}

// TestInput pipes bytes of all values into a program, with their end.
func TestInput(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	data := make([]byte, 2_000_003)
	for i := range data {
		data[i] = byte(i * i >> 8)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	cmd := w.command(ctx, nil, "launcher", "run", prog, "sum")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.CombinedOutput()
	if want := fmt.Sprintf("%x\n", sha256.Sum256(data)); err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

func is(want string) func(string) bool { return func(s string) bool { return s == want } }
func has(want string) func(string) bool {
	return func(s string) bool { return strings.Contains(s, want) }
}

// TestBootSystem boots a closure's init by switch_root.
func TestBootSystem(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	system := w.addGuestProg()
	r := w.run(nil, "launcher", "boot", system+"/init", "--", "one", "two words")
	for _, want := range []string{
		"system: pid 1\n",
		`system: args ["one" "two words"]` + "\n",
		"system: mount / tmpfs rw\n",
		"system: mount /nix/store virtiofs ro\n",
		"system: mount /proc proc rw\n",
		"system: mount /sys sysfs rw\n",
		"system: mount /dev devtmpfs rw\n",
		"system: mount /run tmpfs rw\n",
		"system: initramfs gone true\n",
		"system: root writable true\n",
	} {
		if !strings.Contains(strings.ReplaceAll(r.stdout, "\r\n", "\n"), want) {
			t.Errorf("output lacks %q", want)
		}
	}
	if r.code != 0 || t.Failed() {
		t.Fatalf("got %s", r)
	}
}

// TestKernelParameters drives init by the kernel command line alone, as with
// the original's script.
func TestKernelParameters(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	path := w.addGuestProg()
	prog := path + "/bin/guestprog"
	tests := []struct {
		name, cmdline string
		code          int
		has           string
	}{
		{"run", `snix.run="` + prog + ` args 'a b' c"`, 0, `"a b"`},
		{"run fails", "tvix.run=\"" + prog + " exit 3\"", 3, ""},
		{"run a missing program", "tvix.run=" + path + "/bin/none", 127, "bin/none"},
		{"run a missing store path", "tvix.run=/nix/store/00000000000000000000000000000000-none/bin/x", 127, "00000000000000000000000000000000-none"},
		{"init", "init=" + path + "/init", 0, "system: mount /nix/store virtiofs ro"},
		{"missing init", "init=" + path + "/none", 1, path + "/none"},
		{"wrong tag", "tvix.find tvix.tag=other", 1, "other"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := w.run([]string{"CH_CMDLINE=" + tt.cmdline}, "launcher")
			if r.code != tt.code || !strings.Contains(r.stdout+r.stderr, tt.has) {
				t.Errorf("want exit %d and %q: %s", tt.code, tt.has, r)
			}
		})
	}
}

// TestInitrdCompression boots an initrd of every compression.
func TestInitrdCompression(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	for _, c := range []string{"none", "gzip", "zstd"} {
		t.Run(c, func(t *testing.T) {
			initrd := filepath.Join(t.TempDir(), "initrd")
			w.must("mkinitrd", "build", "--template", "store", "--kernel", kernels[0], "--compression", c, "-o", initrd)
			r := w.run(nil, "launcher", "run", "--kernel", kernels[0], "--initrd", initrd, prog, "exit", "5")
			if r.code != 5 {
				t.Errorf("want exit 5: %s", r)
			}
		})
	}
}

// TestTwoAtOnce runs two VMs from one store at the same time.
func TestTwoAtOnce(t *testing.T) {
	needVM(t)
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	defer cancel()
	var cmds []*exec.Cmd
	for _, status := range []string{"6", "7"} {
		c := w.command(ctx, nil, "launcher", "run", prog, "exit", status)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, c)
	}
	for i, c := range cmds {
		_ = c.Wait()
		if c.ProcessState.ExitCode() != 6+i {
			t.Errorf("VM %d: %v", i, c.ProcessState)
		}
	}
}
