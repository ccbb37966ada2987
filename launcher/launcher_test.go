package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
)

const (
	storePath = "/nix/store/00000000000000000000000000000000-hello"
	prog      = storePath + "/bin/hello"
)

// host sets up a machine with the programs in $PATH, a kernel, and no KVM, and
// returns the directory of the kernel.
func host(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"qemu-system-x86_64": "exit 78", "qemu-system-aarch64": "exit 78",
		"virtiofsd": "exit 77", "mkinitrd": "exec /bin/sleep 60",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	image := make([]byte, 0x400)
	copy(image[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(image[0x206:], 0x20f)
	binary.LittleEndian.PutUint16(image[0x20e:], 0x100)
	image[0x236] = 1
	copy(image[0x300:], "6.1.0 (x)\x00")
	if err := os.WriteFile(filepath.Join(dir, "vmlinuz"), image, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	t.Setenv("TERM", "xterm")
	for _, name := range []string{cpusVariable, memoryVariable, cmdlineVariable} {
		t.Setenv(name, "")
	}
	return dir
}

func run(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	var o, e bytes.Buffer
	code = cli.Run(context.Background(), newCommand(), args, cli.Streams{In: null, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

func TestDryRun(t *testing.T) {
	if !amd64() {
		t.Skip("SKIP: the kernel image of this test is for amd64")
	}
	const base = "console=ttyS0 panic=-1 reboot=t tsc=reliable no_timer_check 8250.nr_uarts=1 i8042.noaux i8042.nokbd cryptomgr.notests "
	tests := []struct {
		name   string
		env    string // NAME=VALUE
		args   []string
		has    []string
		hasNot []string
	}{
		{"run", "", []string{"run", prog, "a b", "--cpus", "9"}, []string{
			"virtiofsd serve --fd 3 --event-fd 4 --once --use-daemon auto --require " + storePath + "\n",
			"mkinitrd build --template store --kernel KERNEL --compression none -o /run/user/7/storeboot/vm-0/initrd\n",
			`"argv":["` + prog + `","a b","--cpus","9"],"stdin":"null","stdout":"port","stderr":"port","control":true}` + "\n",
			"-append '" + base + "quiet storeboot.console=hvc0 storeboot.run'",
			"-smp 1 -m 512M", "virtconsole", "-accel tcg",
			"path=/run/user/7/storeboot/vm-0/store.sock",
		}, []string{"TERM"}},
		{"run with flags", "", []string{"run", "--cpus", "2", "--memory", "1G", "--env", "A=b c", "--env", "D=", "--dir", "/nix/store", "--cmdline", "debug tvix.tag=other", "--template", "my.yaml", prog}, []string{
			"-smp 2 -m 1G", "num-request-queues=2", `"env":["A=b c","D="],"dir":"/nix/store"`, "storeboot.run debug tvix.tag=other'", "--template my.yaml",
		}, nil},
		{"run with an initrd", "", []string{"run", "--initrd", "KERNEL", "--console-log", "x.log", prog}, []string{"# /run/user/7/storeboot/vm-0/initrd: a copy of KERNEL\n"}, []string{"mkinitrd", "quiet"}},
		{"store", "", []string{"run", "--store", "/my store", "--blob-service-addr", "memory:", prog}, []string{
			"--once --use-daemon auto --store '/my store' --blob-service-addr memory: --require " + storePath,
		}, nil},
		{"shell", "", []string{"shell"}, []string{"--template shell", "storeboot.shell'"}, []string{"--require"}},
		{"find", "", []string{"find"}, []string{"--template store", "storeboot.find'"}, []string{"--require", "run.json"}},
		{"boot", "", []string{"boot", storePath + "/init", "--cpus", "2", "--", "one", "two words", "--three", ""}, []string{
			"-append '" + base + "quiet init=" + storePath + `/init -- one "two words" --three ""'`, "--require " + storePath, "-smp 2",
		}, []string{"hvc0", "run.json"}},
		{"run as another, for a time", "", []string{"run", "--user", "7:8,9", "--limit", "1m30s", prog}, []string{`"user":{"uid":7,"gid":8,"groups":[9]},"limit_ms":90000`}, nil},
		{"boot with a disk", "", []string{"boot", "--cmdline", "root=LABEL=x ro", "--writable-store", storePath}, []string{
			"init=" + storePath + " storeboot.store.overlay=tmpfs root=LABEL=x ro'", "--template nixos",
		}, nil},
		{"disks", "", []string{"find", "--disk", "KERNEL", "--disk", "KERNEL,ro"}, []string{
			"-drive if=none,id=disk0,format=raw,file=KERNEL -device virtio-blk-pci,drive=disk0",
			"-drive if=none,id=disk1,format=raw,file=KERNEL,readonly=on -device virtio-blk-pci,drive=disk1",
		}, nil},
		{"boot a specialisation", "", []string{"boot", "--specialisation", "debug", "--writable-store=/dev/vda", storePath + "/init"}, []string{
			"init=" + storePath + "/specialisation/debug/init storeboot.store.overlay=/dev/vda'",
		}, nil},
		{"original", cmdlineVariable + "=tvix.find", nil, []string{"-append '" + base + "tvix.find'", "--template store"}, []string{"hvc0", "--require", "quiet"}},
		{"original shell", cmdlineVariable + "=snix.shell quiet", nil, []string{"snix.shell quiet'", "--template shell"}, nil},
		{"original CPUs", cpusVariable + "=3", []string{"find"}, []string{"-smp 3"}, nil},
		{"flag over original CPUs", cpusVariable + "=3", []string{"find", "--cpus", "2"}, []string{"-smp 2"}, nil},
		{"flag over wrong CPUs", cpusVariable + "=x", []string{"find", "--cpus", "2"}, []string{"-smp 2"}, nil},
		{"original memory", memoryVariable + "=384M", []string{"find"}, []string{"-m 384M"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			kernel := filepath.Join(host(t), "vmlinuz")
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			flags := []string{"--dry-run", "--accel", "tcg", "--kernel", kernel}
			args := append([]string{}, flags...)
			if len(tt.args) > 0 {
				args = append([]string{tt.args[0]}, append(flags, tt.args[1:]...)...)
			}
			for i, a := range args {
				args[i] = strings.ReplaceAll(a, "KERNEL", kernel)
			}
			code, out, errOut := run(t, args...)
			if code != 0 || errOut != "" {
				t.Fatalf("exit %d, stderr %s", code, errOut)
			}
			out = strings.ReplaceAll(out, kernel, "KERNEL")
			for _, want := range tt.has {
				if !strings.Contains(out, want) {
					t.Errorf("lacks %q:\n%s", want, out)
				}
			}
			for _, no := range tt.hasNot {
				if strings.Contains(out, no) {
					t.Errorf("has %q:\n%s", no, out)
				}
			}
		})
	}
}

// TestPrintConfig holds the names of the JSON, which others read: those of the
// flags.
func TestPrintConfig(t *testing.T) {
	if !amd64() {
		t.Skip("SKIP: the kernel image of this test is for amd64")
	}
	kernel := filepath.Join(host(t), "vmlinuz")
	code, out, errOut := run(t, "run", "--print-config", "--accel", "tcg", "--kernel", kernel, "--cpus", "2", "--pin", "1@0,2-3",
		"--memory", "256M", "--max-memory", "512M", "--balloon", "--net", "user", "-p", "8080:80", "--disk", kernel+",ro", prog)
	if code != 0 || errOut != "" {
		t.Fatalf("exit %d, stderr %s", code, errOut)
	}
	var c struct {
		VMM, Why string
		Run      struct{ Argv []string }
		Command  []string
		Machine  map[string]json.RawMessage
	}
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatal(err)
	}
	if c.VMM != "qemu" || c.Why == "" || len(c.Run.Argv) != 1 || !strings.HasSuffix(c.Command[0], "qemu-system-x86_64") {
		t.Errorf("got %s", out)
	}
	for name, want := range map[string]string{
		"arch": `"amd64"`, "accel": `"tcg"`, "cpus": "2", "memory": "268435456", "max-memory": "536870912", "balloon": "true",
		"pin": "[null,[0,2,3]]", "disk": `[{"path":"` + kernel + `","ro":true}]`, "kernel": `"` + kernel + `"`,
	} {
		var b bytes.Buffer
		if err := json.Compact(&b, c.Machine[name]); err != nil || b.String() != want {
			t.Errorf("%s is %s, want %s", name, &b, want)
		}
	}
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(strings.TrimLeft(line, " "), `": `); ok && name != strings.ToLower(name) {
			t.Errorf("a name that is not in lower case: %s", line)
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		name string
		env  string
		args []string
		code int
		has  []string
	}{
		{"nothing", "", nil, 2, []string{"a subcommand is needed, or CH_CMDLINE"}},
		{"unknown command", "", []string{"rnu"}, 2, []string{"rnu", "run"}},
		{"no program", "", []string{"run"}, 2, []string{"PROGRAM is missing"}},
		{"outside the store", "", []string{"run", "/usr/bin/hello"}, 2, []string{"/usr/bin/hello", "/nix/store"}},
		{"out of the store", "", []string{"run", storePath + "/../../../bin/sh"}, 2, []string{"/bin/sh", "/nix/store"}},
		{"bad hash", "", []string{"run", "/nix/store/hello/bin/hello"}, 2, []string{"hello", "HASH-NAME"}},
		{"store path alone", "", []string{"run", storePath + "/"}, 2, []string{storePath + "/bin/PROGRAM"}},
		{"bad environment", "", []string{"run", "--env", "A", prog}, 2, []string{`"A" is not KEY=VALUE`}},
		{"bad directory", "", []string{"run", "--dir", "x", prog}, 2, []string{`dir "x"`}},
		{"too many paths", "", []string{"boot", prog, prog}, 2, []string{"unexpected argument"}},
		{"no path to boot", "", []string{"boot", "--", "x"}, 2, []string{"STOREPATH[/init] is missing"}},
		{"user", "", []string{"run", "--user", "root", prog}, 2, []string{`--user root: "root" is no number`}},
		{"user beyond", "", []string{"run", "--user", "1:4294967295", prog}, 2, []string{"4294967295"}},
		{"limit", "", []string{"run", "--limit", "1us", prog}, 2, []string{"--limit 1µs"}},
		{"specialisation", "", []string{"boot", "--specialisation", "../x", storePath}, 2, []string{`--specialisation "../x"`}},
		{"quote in an argument", "", []string{"boot", prog, "--", `a"b`}, 2, []string{"double quote"}},
		{"CPUs", "", []string{"find", "--cpus", "0"}, 2, []string{"--cpus 0", "1 to 255"}},
		{"original CPUs", cpusVariable + "=many", []string{"find"}, 2, []string{"CH_NUM_CPUS=many"}},
		{"original zero CPUs", cpusVariable + "=0", []string{"find"}, 2, []string{"CH_NUM_CPUS 0"}},
		{"pin", "", []string{"find", "--kernel", "KERNEL", "--pin", "0@1,2@3"}, 1, []string{"processor 2 of the guest is pinned"}},
		{"pin of nothing", "", []string{"find", "--pin", "x@1"}, 2, []string{"--pin x@1", "as 0@4"}},
		{"pin half", "", []string{"find", "--pin", "1,0@2"}, 2, []string{"as 0@1"}},
		{"pin backwards", "", []string{"find", "--pin", "0@3-1"}, 2, []string{"want processors"}},
		{"memory", "", []string{"find", "--memory", "1"}, 2, []string{"--memory 1", "1M"}},
		{"original memory", memoryVariable + "=lots", []string{"find"}, 2, []string{"CH_MEM_SIZE lots"}},
		{"timeout", "", []string{"find", "--timeout", "-1s"}, 2, []string{"--timeout -1s"}},
		{"parameter", cmdlineVariable + "=tvix.fnid", nil, 2, []string{"CH_CMDLINE", "tvix.fnid", "find"}},
		{"mode in --cmdline", "", []string{"find", "--cmdline", "tvix.shell"}, 2, []string{"tvix.shell", "subcommand"}},
		{"wrong --cmdline", "", []string{"find", "--cmdline", "tvix.tag="}, 2, []string{"tvix.tag"}},
		{"initrd and template", "", []string{"find", "--initrd", "x", "--template", "y"}, 2, []string{"--initrd and --template"}},
		{"VMM", "", []string{"find", "--vmm", "xen"}, 2, []string{"--vmm xen"}},
		{"kernel", "", []string{"find", "--kernel", "/nonexistent/k"}, 1, []string{"/nonexistent/k", "no such file"}},
		{"initrd", "", []string{"find", "--kernel", "KERNEL", "--initrd", "/nonexistent/i"}, 1, []string{"open initrd", "/nonexistent/i"}},
		{"no disk", "", []string{"find", "--kernel", "KERNEL", "--disk", "/nonexistent/d"}, 1, []string{"--disk", "/nonexistent/d"}},
		{"no QEMU", "PATH=/nonexistent", []string{"find", "--kernel", "KERNEL"}, 1, []string{"qemu-system-", "apt-get install"}},
		{"no store daemon", "", []string{"find", "--kernel", "KERNEL", "--virtiofsd", "/nonexistent/d"}, 1, []string{"--virtiofsd", "/nonexistent/d"}},
		{"long command line", "", []string{"find", "--kernel", "KERNEL", "--cmdline", strings.Repeat("x", 2048)}, 1, []string{"the kernel takes 2047"}},
		{"daemon that fails", "", []string{"find", "--kernel", "KERNEL"}, 1, []string{"virtiofsd ended with exit status 77"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !amd64() {
				t.Skip("SKIP: the kernel image of this test is for amd64")
			}
			dir := host(t)
			t.Setenv("XDG_RUNTIME_DIR", dir)
			if name, value, ok := strings.Cut(tt.env, "="); ok {
				t.Setenv(name, value)
			}
			args := append([]string{}, tt.args...)
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "KERNEL", filepath.Join(dir, "vmlinuz"))
			}
			if len(args) > 0 && strings.Contains(strings.Join(args, " "), "vmlinuz") {
				args = append([]string{args[0], "--accel", "tcg"}, args[1:]...)
			}
			code, _, errOut := run(t, args...)
			first, _, _ := strings.Cut(errOut, "\n")
			if code != tt.code {
				t.Errorf("exit %d, want %d: %s", code, tt.code, errOut)
			}
			for _, want := range tt.has {
				if !strings.Contains(first, want) {
					t.Errorf("%q lacks %q", first, want)
				}
			}
			if lines := strings.Count(errOut, "\n"); lines > tt.code {
				t.Errorf("%d lines: %s", lines, errOut)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "storeboot/*")); len(left) > 0 {
				t.Errorf("left behind: %s", left)
			}
		})
	}
}

func TestKernelLine(t *testing.T) {
	t.Setenv("TERM", "xterm-256color")
	j := &job{machineOptions: &machineOptions{cmdline: " debug "}, parameters: []parameter{{"init", storePath + "/a b"}}, initArgs: []string{"x"}}
	line, err := j.kernelLine("arm64", false)
	if err != nil || line != `console=ttyAMA0 panic=-1 quiet init="`+storePath+`/a b" debug -- x` {
		t.Errorf("%s, %v", line, err)
	}
	p, err := bootproto.ParseCommandLine(line)
	if err != nil || p.Init != storePath+"/a b" || len(p.InitArgs) != 1 {
		t.Errorf("read back as %+v, %v", p, err)
	}
	for term, want := range map[string]string{"xterm-256color": "xterm-256color", "a b": "", `"`: "", "": ""} {
		t.Setenv("TERM", term)
		if got := termType(); got != want {
			t.Errorf("TERM=%q is taken for %q", term, got)
		}
	}
}

func TestLineInput(t *testing.T) {
	for text, want := range map[string]string{"": "\x04", "ls\n": "ls\n\x04", "ls": "ls\n\x04", "a\nb": "a\nb\n\x04"} {
		for _, r := range []io.Reader{strings.NewReader(text), iotest.DataErrReader(strings.NewReader(text)), iotest.OneByteReader(strings.NewReader(text))} {
			got, err := io.ReadAll(iotest.OneByteReader(&lineInput{r: r}))
			if err != nil || string(got) != want {
				t.Errorf("%q: %q, %v; want %q", text, got, err, want)
			}
		}
	}
	waits := 0
	again := &lineInput{r: strings.NewReader("x\n"), wait: func() { waits++ }}
	if got, err := io.ReadAll(io.LimitReader(iotest.OneByteReader(again), 5)); err != nil || string(got) != "x\n\x04\x04\x04" || waits != 2 {
		t.Errorf("%q, %v after %d waits", got, err, waits)
	}
	if _, err := io.ReadAll(&lineInput{r: iotest.ErrReader(io.ErrClosedPipe)}); err == nil {
		t.Error("an error is taken for the end")
	}
}
