package tests

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput holds that wrong input gets one line that names the thing, the
// right exit code, and leaves nothing behind. No VM is started by any row.
func TestBadInput(t *testing.T) {
	w := newWorld(t)
	prog := w.addGuestProg() + "/bin/guestprog"
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const none = "/nix/store/00000000000000000000000000000000-none"
	notKernel := write("not-a-kernel", "hello")
	template := write("bad.yaml", "description: x\nmodlues: [fuse]\n")
	unknownModule := write("module.yaml", "description: x\nmodules: [no_such_module]\n")
	out := filepath.Join(dir, "out")
	longDir := filepath.Join(dir, strings.Repeat("d", 120))
	kernels, _ := filepath.Glob("/boot/vmlinuz-*-cloud-*")
	need(t, len(kernels) > 0, "a cloud kernel in /boot (apt-get install linux-image-cloud-amd64)")
	tests := []struct {
		name string
		env  []string
		args []string
		code int
		has  []string
	}{
		{"unknown flag", nil, []string{"launcher", "run", "--cpu", "2", prog}, 2, []string{"--cpu"}},
		{"unknown command", nil, []string{"virtiofsd", "sevre"}, 2, []string{"sevre", "serve"}},
		{"no program", nil, []string{"launcher", "run"}, 2, []string{"missing"}},
		{"program outside the store", nil, []string{"launcher", "run", "/usr/bin/hello"}, 2, []string{"/usr/bin/hello", "/nix/store"}},
		{"store path not in the store", nil, []string{"launcher", "run", none + "/bin/x"}, 1, []string{none, "virtiofsd import"}},
		{"unknown kernel parameter", []string{"CH_CMDLINE=tvix.fnid"}, []string{"launcher"}, 2, []string{"tvix.fnid", "find"}},
		{"bad kernel parameter value", []string{"CH_CMDLINE=tvix.find=maybe"}, []string{"launcher"}, 2, []string{"tvix.find", "maybe"}},
		{"bad CPUs", []string{"CH_NUM_CPUS=many", "CH_CMDLINE=tvix.find"}, []string{"launcher"}, 2, []string{"CH_NUM_CPUS", "many"}},
		{"bad memory", []string{"CH_MEM_SIZE=lots", "CH_CMDLINE=tvix.find"}, []string{"launcher"}, 2, []string{"CH_MEM_SIZE", "lots"}},
		{"unreadable kernel", nil, []string{"launcher", "run", "--kernel", filepath.Join(dir, "nokernel"), prog}, 1, []string{"nokernel"}},
		{"not a kernel", nil, []string{"launcher", "run", "--kernel", notKernel, prog}, 1, []string{notKernel, "not a kernel image"}},
		{"unknown VMM", nil, []string{"launcher", "run", "--vmm", "xen", prog}, 2, []string{"xen", "qemu", "cloud-hypervisor"}},
		{"unknown accelerator", nil, []string{"launcher", "run", "--accel", "magic", prog}, 2, []string{"magic", "tcg"}},
		{"no KVM and no QEMU", []string{"PATH=" + dir}, []string{"launcher", "run", prog}, 1, []string{"qemu-system-x86", "apt-get install"}},
		{"unknown store address", []string{"BLOB_SERVICE_ADDR=ftp://x"}, []string{"launcher", "run", prog}, 1, []string{"ftp"}},
		{"unknown template key", nil, []string{"mkinitrd", "build", "--template", template, "-o", out}, 1, []string{"bad.yaml", "2:", "modlues"}},
		{"unknown template", nil, []string{"mkinitrd", "build", "--template", "stroe", "-o", out}, 1, []string{"stroe", "shell"}},
		{"module that does not exist", nil, []string{"mkinitrd", "build", "--template", unknownModule, "--kernel", kernels[0], "-o", out}, 1, []string{"no_such_module"}},
		{"unknown compression", nil, []string{"mkinitrd", "build", "--template", "store", "--compression", "rar", "-o", out}, 2, []string{"rar", "zstd"}},
		{"output in no directory", nil, []string{"mkinitrd", "build", "--template", "store", "-o", filepath.Join(dir, "none/out")}, 1, []string{"none"}},
		{"socket path too long", nil, []string{"virtiofsd", "serve", "--socket-path", longDir}, 1, []string{"107"}},
		{"socket in no directory", nil, []string{"virtiofsd", "serve", "--socket-path", filepath.Join(dir, "no/sock")}, 1, []string{"no/sock"}},
		{"import of nothing", nil, []string{"virtiofsd", "import", filepath.Join(dir, "nothing")}, 1, []string{"nothing"}},
		{"import under a bad name", nil, []string{"virtiofsd", "import", write("a name with spaces", "")}, 1, []string{"a name with spaces", "--name"}},
		{"copy of a path Nix lacks", nil, []string{"virtiofsd", "copy", "--from-nix", none}, 1, []string{none}},
		{"check of a missing file", nil, []string{"kernelconfig", "check", filepath.Join(dir, "no.config")}, 1, []string{"no.config"}},
		{"init on a host", nil, []string{"init"}, 2, []string{"PID 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := w.run(tt.env, tt.args[0], tt.args[1:]...)
			if r.code != tt.code || r.stdout != "" {
				t.Errorf("want exit %d and no output: %s", tt.code, r)
			}
			first, rest, _ := strings.Cut(r.stderr, "\n")
			for _, want := range tt.has {
				if !strings.Contains(first, want) {
					t.Errorf("stderr lacks %q: %s", want, first)
				}
			}
			// Wrong usage may name the help in a second line; nothing has more.
			if rest != "" && !(tt.code == 2 && strings.Count(rest, "\n") == 1 && strings.Contains(rest, "--help")) {
				t.Errorf("more than one line: %s", r.stderr)
			}
			if _, err := os.Stat(out); err == nil {
				t.Error("a failed build left its output")
			}
		})
	}
	if list := strings.TrimSpace(w.must("virtiofsd", "list")); strings.Count(list, "\n") != 0 || !strings.HasPrefix(prog, list) {
		t.Errorf("the store holds %q", list)
	}
}
