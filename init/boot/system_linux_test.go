package boot

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// The parts of the real System that change nothing on the machine that runs
// the tests. The rest is held by the boots of tests/.

func TestMachineFiles(t *testing.T) {
	m := new(machine)
	dir := t.TempDir()
	sub := filepath.Join(dir, "sub")
	for range 2 { // the second time it exists
		if err := m.Mkdir(sub, 0o1777); err != nil {
			t.Fatal(err)
		}
	}
	if st, err := m.Stat(sub); err != nil || st.Mode != unix.S_IFDIR|0o1777 {
		t.Errorf("directory: mode %o, %v", st.Mode, err)
	}
	link := filepath.Join(sub, "link")
	for _, target := range []string{"nowhere", "file"} {
		if err := m.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.WriteFile(link, "x"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("write to a file that does not exist: %v", err)
	}
	file := filepath.Join(sub, "file")
	text := strings.Repeat("0123456789", 100_000)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if got, err := m.ReadFile(link); err != nil || string(got) != text {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if err := os.Truncate(file, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadFile(file); !errors.Is(err, unix.EFBIG) {
		t.Errorf("read a long file: %v", err)
	}
	if _, err := m.ReadFile(filepath.Join(file, "x")); !isMissing(err) {
		t.Errorf("read below a file: %v", err)
	}
	f, err := m.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, err := io.ReadAll(io.NewSectionReader(f, 5, 10)); err != nil || string(got) != "5678901234" {
		t.Errorf("read at: %q, %v", got, err)
	}
	if n, err := f.ReadAt(make([]byte, 10), maxFile-4); n != 5 || !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %d, %v", n, err)
	}
	if got := m.Glob(filepath.Join(dir, "*/l*")); len(got) != 1 || got[0] != link {
		t.Errorf("glob: %q", got)
	}
	if err := m.LoadModule(filepath.Join(dir, "none.ko"), ""); !errors.Is(err, errModuleFile) {
		t.Errorf("module without a file: %v", err)
	}
	if m.Release() == "" || m.Elapsed() <= 0 {
		t.Errorf("release %q, elapsed %v", m.Release(), m.Elapsed())
	}
}

func TestMachineResolve(t *testing.T) {
	m := new(machine)
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a/b"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "a/b/file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"abs": "/a/b/file", "up": "../../../../a", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"/a/b/file":        "/a/b/file",
		"/abs":             "/a/b/file",
		"/up/b/file":       "/a/b/file",
		"/../../a/b/../b/": "/a/b",
		"/":                "/",
	} {
		if got, err := m.Resolve(root, name); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
	if _, err := m.Resolve(root, "/none"); !isMissing(err) {
		t.Errorf("missing: %v", err)
	}
	if _, err := m.Resolve(root, "/loop"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("loop: %v", err)
	}
}

func TestMachineStoreReport(t *testing.T) {
	s, err := new(machine).OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// No file system of this machine knows the ioctl.
	if err := s.Report([]byte("{}")); !errors.Is(err, unix.ENOTTY) {
		t.Errorf("a store that takes no report: %v", err)
	}
	for _, n := range []int{0, bootproto.MaxReport + 1} {
		if err := s.Report(make([]byte, n)); err == nil || errors.Is(err, unix.ENOTTY) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestMachineProgram starts real programs. PID 1 reaps whatever ends; here
// that is only what the test starts.
func TestMachineProgram(t *testing.T) {
	m := new(machine)
	tests := []struct {
		name    string
		program Program
		want    ExitStatus
		output  string
		err     error
	}{
		{"status and output", Program{Argv: []string{"/bin/sh", "-c", "pwd; echo $A; exit 3"}, Env: []string{"A=b c"}, Dir: "/usr", Session: true}, ExitStatus{Code: 3}, "/usr\nb c\n", nil},
		{"signal", Program{Argv: []string{"/bin/sh", "-c", "kill -9 $$"}, Dir: "/", Session: true}, ExitStatus{Signal: 9}, "", nil},
		{"no input", Program{Argv: []string{"/bin/sh", "-c", "read x; echo $?"}, Dir: "/", Input: "/dev/null"}, ExitStatus{}, "1\n", nil},
		{"missing", Program{Argv: []string{"/no/such/program"}, Dir: "/"}, ExitStatus{}, "", unix.ENOENT},
		{"not executable", Program{Argv: []string{"/etc/passwd"}, Dir: "/"}, ExitStatus{}, "", unix.EACCES},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			if err := os.WriteFile(out, nil, 0o644); err != nil {
				t.Fatal(err)
			}
			console, err := m.OpenTerminal(out) // a device that is no terminal
			if err != nil {
				t.Fatal(err)
			}
			p := tt.program
			p.Terminal = console
			pid, err := m.Start(&p)
			if !errors.Is(err, tt.err) || err != nil {
				if tt.err == nil || !errors.Is(err, tt.err) {
					t.Fatalf("start: %v, want %v", err, tt.err)
				}
				return
			}
			got, status, err := m.Wait()
			if err != nil || got != pid || status != tt.want {
				t.Errorf("%d ended with %+v, %v; want %d, %+v", got, status, err, pid, tt.want)
			}
			if text, err := os.ReadFile(out); err != nil || string(text) != tt.output {
				t.Errorf("output %q, %v; want %q", text, err, tt.output)
			}
			for _, f := range []func() error{console.Raw, console.TakeControl, console.Drain, console.Restore, func() error { return console.Cooked(1, 2) }} {
				if err := f(); err != nil {
					t.Errorf("on what is no terminal: %v", err)
				}
			}
		})
	}
	if _, _, err := m.Wait(); !errors.Is(err, unix.ECHILD) {
		t.Errorf("wait for nobody: %v", err)
	}
	if !reapAll(grace) {
		t.Error("reapAll found somebody")
	}
}

// TestMachineTerminal holds the two settings of a console.
func TestMachineTerminal(t *testing.T) {
	host, guest, err := pty.Open()
	if err != nil {
		t.Skip("SKIP: this machine has no pseudo-terminals: " + err.Error())
	}
	defer host.Close()
	defer guest.Close()
	console, err := new(machine).OpenTerminal(guest.Name())
	if err != nil {
		t.Fatal(err)
	}
	passes := func(in, want string) {
		t.Helper()
		if _, err := console.Write([]byte(in)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(host, got); err != nil || string(got) != want {
			t.Errorf("%q came out as %q, %v; want %q", in, got, err, want)
		}
	}
	if err := console.Raw(); err != nil {
		t.Fatal(err)
	}
	var all []byte
	for i := range 256 {
		all = append(all, byte(i))
	}
	passes(string(all), string(all))
	if _, err := host.Write(all); err != nil { // and no echo: the next output is ours
		t.Fatal(err)
	}
	in := make([]byte, 256)
	if _, err := io.ReadFull(guest, in); err != nil || !bytes.Equal(in, all) {
		t.Errorf("input %q, %v", in, err)
	}
	passes("end", "end")
	if err := console.Cooked(33, 99); err != nil {
		t.Fatal(err)
	}
	passes("a\nb", "a\r\nb")
	if rows, columns, err := pty.Getsize(guest); err != nil || rows != 33 || columns != 99 {
		t.Errorf("size %d x %d, %v", rows, columns, err)
	}
	if _, err := host.Write([]byte("x\r")); err != nil {
		t.Fatal(err)
	}
	echo := make([]byte, 3)
	if _, err := io.ReadFull(host, echo); err != nil || string(echo) != "x\r\n" {
		t.Errorf("echo %q, %v", echo, err)
	}
	if err := console.Raw(); err != nil {
		t.Fatal(err)
	}
	if err := console.Restore(); err != nil {
		t.Fatal(err)
	}
	passes("a\nb", "a\r\nb")
	if err := console.Resize(40, 120); err != nil {
		t.Fatal(err)
	}
	if rows, columns, err := pty.Getsize(guest); err != nil || rows != 40 || columns != 120 {
		t.Errorf("resized to %d x %d, %v", rows, columns, err)
	}
}

// TestMachineOutput gives a program two outputs of its own.
func TestMachineOutput(t *testing.T) {
	m := new(machine)
	console, err := m.OpenTerminal("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string]string{"out": "", "err": ""}
	for name := range files {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pid, err := m.Start(&Program{
		Argv:     []string{"/bin/sh", "-c", "head -c 3000000 /dev/zero; echo again >/dev/stdout; echo bad >&2"},
		Env:      []string{"PATH=/usr/bin:/bin"},
		Dir:      "/",
		Terminal: console, Input: "/dev/null", Session: true,
		Stdout: filepath.Join(dir, "out"), Stderr: filepath.Join(dir, "err"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, status, err := m.Wait(); err != nil || got != pid || status != (ExitStatus{}) {
		t.Errorf("%d ended with %+v, %v", got, status, err)
	}
	m.DrainOutput(time.Minute)
	for name := range files {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = strings.TrimLeft(string(text), "\x00")
		if n := len(text) - len(files[name]); name == "out" && n != 3000000 {
			t.Errorf("%d bytes came out", n)
		}
	}
	if files["out"] != "again\n" || files["err"] != "bad\n" {
		t.Errorf("output %q", files)
	}
	if _, err := m.Start(&Program{Argv: []string{"/bin/true"}, Dir: "/", Terminal: console, Stdout: "/no/such/device"}); !errors.Is(err, unix.ENOENT) {
		t.Errorf("without its device: %v", err)
	}
	m.DrainOutput(time.Minute) // of a program that did not start
}

// TestPassOn moves data to what splice(2) cannot write to.
func TestPassOn(t *testing.T) {
	name := filepath.Join(t.TempDir(), "out")
	to, err := unix.Open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	go func() {
		_, _ = w.Write(data)
		_ = w.Close()
	}()
	from, err := unix.Dup(int(r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	passOn(to, from)
	_ = unix.Close(from)
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes, %v; want %d", len(got), err, len(data))
	}
}

// TestMachineControl holds that lines of a device arrive, and signals.
func TestMachineControl(t *testing.T) {
	m := new(machine)
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	w, err := os.OpenFile(fifo, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	lines := make(chan string, 2)
	if err := m.Lines(fifo, func(s string) { lines <- s }); err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"a", "", "b c"} {
		if _, err := w.WriteString(s + "\n"); err != nil {
			t.Fatal(err)
		}
		if got := <-lines; got != s {
			t.Errorf("line %q, want %q", got, s)
		}
	}
	if err := m.Lines(filepath.Join(fifo, "x"), nil); err == nil {
		t.Error("lines of nothing")
	}
	console, err := m.OpenTerminal("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := m.Start(&Program{Argv: []string{"/bin/sleep", "100"}, Dir: "/", Terminal: console})
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Process(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(10); err != nil {
		t.Error(err)
	}
	if _, status, err := m.Wait(); err != nil || status.Signal != 10 {
		t.Errorf("%+v, %v", status, err)
	}
	if err := p.Signal(10); !errors.Is(err, unix.ESRCH) {
		t.Errorf("a signal to what has ended: %v", err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}
