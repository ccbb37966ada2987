package boot

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"storeboot/internal/bootproto"
)

// fakeSystem is a machine in memory that records what is done to it. Its clock
// moves only when somebody sleeps.
type fakeSystem struct {
	calls []string
	files map[string]string // path -> content; a directory ends in "/"
	modes map[string]uint32 // permissions of files, where not 0o755
	now   time.Duration

	// fail gives the error of the calls that begin with a key.
	fail map[string]error
	// tag is the only virtio-fs tag that there is, from tagAt on.
	tag   string
	tagAt time.Duration
	// ends are the processes that Wait reports.
	ends     []fakeEnd
	terminal *fakeTerminal
	reports  []bootproto.Report // through the store
	noReport bool               // the daemon takes none
	log      bytes.Buffer
	program  *Program
	panicAt  string   // the call that panics
	stopped  string   // why the machine is to be powered off
	output   []string // of programs with a Log
	lines    []string // that devices send
	gone     bool     // processes have ended when a signal is sent
	environ  []string
	disks    []string // the files that are disks
	onSleep  func()
	onWait   func() ([]string, bool) // what WaitDevice returns
	cpus     int
	mu       sync.Mutex // of calls, while modules are loaded
	onModule func(path string)
	t        *testing.T
}

type fakeEnd struct {
	pid    int
	status ExitStatus
}

// fakePID is the process id of the program that is started.
const fakePID = 42

func newFake(t *testing.T, cmdline string) *fakeSystem {
	return &fakeSystem{
		t: t,
		files: map[string]string{
			"/proc/cmdline":                 "console=ttyS0 " + cmdline + "\n",
			"/proc/sys/kernel/printk":       "7 4 1 7\n",
			"/sys/class/tty/console/active": "tty0 ttyS0\n",
			"/init":                         "\x7fELF",
			"/bin/":                         "",
		},
		modes:    map[string]uint32{},
		fail:     map[string]error{},
		tag:      "tvix",
		ends:     []fakeEnd{{7, ExitStatus{Code: 9}}, {fakePID, ExitStatus{}}},
		terminal: &fakeTerminal{},
	}
}

// call records one call and returns the error it is to have.
func (f *fakeSystem) call(format string, args ...any) error {
	s := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, s)
	if f.panicAt != "" && strings.HasPrefix(s, f.panicAt) {
		panic("boom")
	}
	for prefix, err := range f.fail {
		if strings.HasPrefix(s, prefix) {
			return err
		}
	}
	return nil
}

// made are the recorded calls that begin with one of prefixes.
func (f *fakeSystem) made(prefixes ...string) []string {
	var out []string
	for _, c := range f.calls {
		for _, p := range prefixes {
			if strings.HasPrefix(c, p) {
				out = append(out, c)
				break
			}
		}
	}
	return out
}

func (f *fakeSystem) Mkdir(p string, mode uint32) error {
	f.files[p+"/"] = ""
	return f.call("mkdir %s %o", p, mode)
}

func (f *fakeSystem) Symlink(target, p string) error { return f.call("symlink %s %s", target, p) }

func (f *fakeSystem) ReadFile(p string) ([]byte, error) {
	if err := f.call("read %s", p); err != nil {
		return nil, err
	}
	text, ok := f.files[p]
	if !ok {
		return nil, syscall.ENOENT
	}
	return []byte(text), nil
}

func (f *fakeSystem) WriteFile(p, text string) error { return f.call("write %s %s", p, text) }

func (f *fakeSystem) CreateFile(p, text string) error { return f.call("create %s %q", p, text) }
func (f *fakeSystem) Remove(p string) error           { return f.call("remove %s", p) }
func (f *fakeSystem) AttachLoop(p string) (string, error) {
	return "/dev/loop3", f.call("loop %s", p)
}
func (f *fakeSystem) Now() time.Time            { return time.Unix(1700000000, 0).Add(f.now) }
func (f *fakeSystem) Environ() []string         { return f.environ }
func (f *fakeSystem) WatchPowerButton()         {}
func (f *fakeSystem) LoopbackUp() error         { return f.call("loopback") }
func (f *fakeSystem) Stopped() string           { return f.stopped }
func (f *fakeSystem) DrainOutput(time.Duration) { _ = f.call("drain output") }
func (f *fakeSystem) Restart()                  { _ = f.call("restart") }

func (f *fakeSystem) KillAfter(pid int, limit time.Duration) func() bool {
	return func() bool { return f.call("limit %d %v", pid, limit) != nil }
}

func (f *fakeSystem) MemoryFile(name, text string) (int, error) {
	return 9, f.call("memory file %s %q", name, text)
}

func (f *fakeSystem) Process(pid int) (Process, error) {
	return fakeProcess{f, pid}, f.call("process %d", pid)
}

func (f *fakeSystem) Lines(p string, take func(string)) error {
	if err := f.call("lines %s", p); err != nil {
		return err
	}
	for _, l := range f.lines {
		take(l)
	}
	return nil
}

type fakeProcess struct {
	f   *fakeSystem
	pid int
}

func (p fakeProcess) Signal(signal int) error {
	if err := p.f.call("signal %d %d", p.pid, signal); err != nil {
		return err
	}
	if p.f.gone {
		return syscall.ESRCH
	}
	return nil
}

func (p fakeProcess) Close() error { return p.f.call("close process %d", p.pid) }

type fakeFile struct{ *strings.Reader }

func (fakeFile) Close() error { return nil }

func (f *fakeSystem) Open(p string) (File, error) {
	text, ok := f.files[p]
	if !ok {
		return nil, syscall.ENOENT
	}
	return fakeFile{strings.NewReader(text)}, nil
}

func (f *fakeSystem) Stat(p string) (Stat, error) {
	if _, ok := f.files[strings.TrimSuffix(p, "/")+"/"]; ok || p == "/" {
		return Stat{Mode: syscall.S_IFDIR | 0o755, Dev: 0x1f}, nil
	}
	if _, ok := f.files[p]; !ok {
		return Stat{}, syscall.ENOENT
	}
	if slices.Contains(f.disks, p) {
		return Stat{Mode: syscall.S_IFBLK | 0o600}, nil
	}
	mode, ok := f.modes[p]
	if !ok {
		mode = 0o755
	}
	return Stat{Mode: syscall.S_IFREG | mode}, nil
}

func (f *fakeSystem) Glob(pattern string) []string {
	var out []string
	for p := range f.files {
		if ok, err := path.Match(pattern, strings.TrimSuffix(p, "/")); err != nil {
			f.t.Fatal(err)
		} else if ok {
			out = append(out, strings.TrimSuffix(p, "/"))
		}
	}
	sort.Strings(out)
	return out
}

func (f *fakeSystem) Resolve(root, p string) (string, error) {
	if target, ok := strings.CutPrefix(f.files[path.Join(root, p)], "-> "); ok {
		p = target
	}
	_, err := f.Stat(path.Join(root, p))
	return p, err
}

func (f *fakeSystem) CPUs() int { return max(f.cpus, 1) }

func (f *fakeSystem) Release() string { return "6.1.0-fake" }

func (f *fakeSystem) Mount(source, target, fstype string, flags uintptr, data string) error {
	if err := f.call("mount %s %s %s %#x %s", source, target, fstype, flags, data); err != nil {
		return err
	}
	if fstype == "virtiofs" && source != "home" && (source != f.tag || f.now < f.tagAt) {
		return syscall.EINVAL
	}
	return nil
}

func (f *fakeSystem) LoadModule(p, options string) error {
	if f.onModule != nil {
		f.onModule(p)
	}
	return f.call("module %s %s", p, options)
}
func (f *fakeSystem) Elapsed() time.Duration { return f.now }
func (f *fakeSystem) WaitDevice(d time.Duration) ([]string, bool) {
	f.now += d
	if f.onSleep != nil {
		f.onSleep()
	}
	if f.onWait != nil {
		return f.onWait()
	}
	return nil, false
}

func (f *fakeSystem) OpenKernelLog() (io.Writer, error) { return &f.log, f.call("kmsg") }

func (f *fakeSystem) OpenTerminal(p string) (Terminal, error) {
	if err := f.call("terminal %s", p); err != nil {
		return nil, err
	}
	f.terminal.f = f
	return f.terminal, nil
}

func (f *fakeSystem) OpenStore(p string) (Store, error) { return f, f.call("store %s", p) }

func (f *fakeSystem) Report(data []byte) error {
	if err := f.call("report"); err != nil {
		return err
	}
	if f.noReport {
		return syscall.ENOSYS
	}
	r, err := bootproto.ParseReport(data)
	if err != nil {
		f.t.Errorf("report through the store: %v", err)
		return nil
	}
	f.reports = append(f.reports, *r)
	return nil
}

func (f *fakeSystem) List(root string, w io.Writer) error {
	if err := f.call("list %s", root); err != nil {
		return err
	}
	_, err := io.WriteString(w, root+"\n")
	return err
}

func (f *fakeSystem) Start(p *Program) (int, error) {
	f.program = p
	for _, line := range f.output {
		if p.Log != nil {
			p.Log(line)
		}
	}
	return fakePID, f.call("start %s%s", p.Root, strings.Join(p.Argv, " "))
}

func (f *fakeSystem) Wait() (int, ExitStatus, error) {
	if err := f.call("wait"); err != nil {
		return 0, ExitStatus{}, err
	}
	if len(f.ends) == 0 {
		return 0, ExitStatus{}, syscall.ECHILD
	}
	e := f.ends[0]
	f.ends = f.ends[1:]
	return e.pid, e.status, nil
}

func (f *fakeSystem) EndProcesses() { _ = f.call("end processes") }
func (f *fakeSystem) StartAgent(args []string) error {
	return f.call("agent %s", strings.Join(args, " "))
}
func (f *fakeSystem) SwitchRoot(root string) error { return f.call("switch root %s", root) }
func (f *fakeSystem) PowerOff()                    { f.calls = append(f.calls, "power off") }
func (f *fakeSystem) Exec(p string, argv, env []string) error {
	if err := f.call("exec %s %q %q", p, argv, env); err != nil {
		return err
	}
	// The real one does not return. What follows here is of no interest.
	return syscall.ENOEXEC
}

// fakeTerminal keeps what is written to it.
type fakeTerminal struct {
	f   *fakeSystem
	out bytes.Buffer
}

func (t *fakeTerminal) Write(p []byte) (int, error) {
	if err := t.f.call("output"); err != nil {
		return 0, err
	}
	return t.out.Write(p)
}
func (t *fakeTerminal) Raw() error { return t.f.call("raw") }
func (t *fakeTerminal) Cooked(rows, columns int) error {
	return t.f.call("cooked %d %d", rows, columns)
}
func (t *fakeTerminal) Resize(rows, columns int) error {
	return t.f.call("resize %d %d", rows, columns)
}
func (t *fakeTerminal) TakeControl() error { return t.f.call("control") }
func (t *fakeTerminal) Drain() error       { return t.f.call("drain") }
func (t *fakeTerminal) Restore() error     { return t.f.call("restore") }

// boot runs the machine to its end and returns its last report, whichever way
// it took.
func (f *fakeSystem) boot() bootproto.Report {
	f.t.Helper()
	Run(f)
	if len(f.calls) == 0 || f.calls[len(f.calls)-1] != "power off" {
		f.t.Fatalf("the machine is still on: %q", f.calls)
	}
	if n := len(f.reports); n > 0 {
		return f.reports[n-1]
	}
	_, line, ok := strings.Cut(f.terminal.out.String(), "\n"+bootproto.ReportMark)
	if !ok {
		f.t.Fatalf("no report; console %q, log %q", f.terminal.out.String(), f.log.String())
	}
	r, err := bootproto.ParseReport([]byte(strings.TrimSuffix(line, "\n")))
	if err != nil {
		f.t.Fatal(err)
	}
	return *r
}
