package session

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/vmm"
)

// The test program stands in for the programs of a session: helperMark and a
// name among its arguments say which. What is said about the guest is in the
// arguments that follow.
const helperMark = "--stand-in-for"

func TestMain(m *testing.M) {
	for i, a := range os.Args {
		if a == helperMark && i+1 < len(os.Args) {
			os.Exit(helper(os.Args[i+1], os.Args[i+2:]))
		}
	}
	// A program with the race detector stays a second at its end.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// standIn is the command of a helper; files are looked up by the helper itself.
func standIn(name string, args ...string) vmm.Command {
	return vmm.Command{Path: "/proc/self/exe", Args: append([]string{helperMark, name}, args...)}
}

func helper(name string, args []string) int {
	switch name {
	case "daemon":
		return daemonHelper(args)
	case "builder":
		return builderHelper(args)
	case "monitor":
		return monitorHelper(args)
	case "session":
		return sessionHelper(args[0])
	}
	return 99
}

// daemonHelper is a store daemon whose "guest" has the report of its last
// argument, which the monitor asks for through the socket.
func daemonHelper(args []string) int {
	events := os.NewFile(4, "events")
	switch args[0] {
	case "refuse":
		fmt.Fprintln(os.Stderr, "virtiofsd: store path X is not in the store: import it")
		return 1
	case "usage":
		fmt.Fprintln(os.Stderr, "virtiofsd: unknown flag: --x\nvirtiofsd: see 'virtiofsd serve --help'")
		return 2
	case "nonsense":
		fmt.Fprintln(events, "hello")
		fmt.Fprintln(events, `{"event":"ready","time_us":1}`)
	case "silent-death":
		return 7
	default:
		fmt.Fprintln(events, `{"event":"ready","time_us":1}`)
	}
	l, err := fileListener(os.NewFile(3, "socket"))
	if err != nil {
		return 98
	}
	conn, err := l.Accept()
	if err != nil {
		return 97
	}
	fmt.Fprintln(events, `{"event":"connected","time_us":2,"connection":1}`)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		fmt.Fprintln(events, lines.Text())
	}
	fmt.Fprintln(events, `{"event":"disconnected","time_us":3,"connection":1}`)
	return 0
}

func builderHelper(args []string) int {
	switch args[0] {
	case "fail":
		fmt.Fprintln(os.Stderr, "building\nmkinitrd: module no_such_module: not in /lib/modules")
		return 1
	case "hang":
		time.Sleep(time.Hour)
	}
	if err := os.WriteFile(args[1], []byte("07070"), 0o600); err != nil {
		return 1
	}
	return 0
}

// monitorHelper is a monitor with a guest that does the actions of its third
// argument, separated by bars: socket, console and program console are the
// first.
func monitorHelper(args []string) int {
	conn, err := dial(args[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cannot connect:", err)
		return 1
	}
	monitor := os.NewFile(3, "monitor")
	write := func(path, text string) {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			panic(err)
		}
		defer f.Close()
		if _, err := io.WriteString(f, text); err != nil {
			panic(err)
		}
	}
	for action := range strings.SplitSeq(args[3], "|") {
		verb, what, _ := strings.Cut(action, "=")
		switch verb {
		case "say":
			write(args[2], what+"\n")
		case "print":
			write(args[1], what+"\n")
		case "bytes":
			n, _ := strconv.Atoi(what)
			write(args[2], strings.Repeat("0123456789abcde\n", n/16))
		case "echo": // one line of what is typed
			in, err := os.OpenFile(strings.TrimSuffix(args[2], ".out")+".in", os.O_RDWR, 0)
			if err != nil {
				panic(err)
			}
			line, _ := bufio.NewReader(in).ReadString('\n')
			write(args[2], "typed "+line)
		case "exited":
			fmt.Fprintf(conn, `{"event":"report","time_us":9,"connection":1,"report":{"version":1,"outcome":"exited","status":%s}}`+"\n", what)
		case "failed":
			fmt.Fprintf(conn, `{"event":"report","time_us":9,"connection":1,"report":{"version":1,"outcome":"failed","status":127,"step":"run","message":"%s"}}`+"\n", what)
		case "handover":
			fmt.Fprintln(conn, `{"event":"report","time_us":9,"connection":1,"report":{"version":1,"outcome":"handover"}}`)
		case "shutdown":
			fmt.Fprintf(monitor, `{"event":"SHUTDOWN","data":{"reason":"%s"}}`+"\n", what)
		case "complain":
			fmt.Fprintln(os.Stderr, what)
		case "exit":
			n, _ := strconv.Atoi(what)
			return n
		case "die":
			p, _ := os.FindProcess(os.Getpid())
			_ = p.Kill()
			time.Sleep(time.Hour)
		case "hang":
			time.Sleep(time.Hour)
		}
	}
	return 0
}

// fakeMonitor is a hypervisor whose monitor is monitorHelper.
type fakeMonitor struct {
	vmm.QEMU // its events
	actions  string
	again    bool
}

func (f *fakeMonitor) Name() string               { return "qemu" }
func (f *fakeMonitor) Check(m *vmm.Machine) error { return m.Check() }
func (f *fakeMonitor) BootsAgain() bool           { return f.again }
func (f *fakeMonitor) Command(m *vmm.Machine) vmm.Command {
	c := standIn("monitor", m.Store.Socket, m.Serial.Output, m.Program.Output, f.actions)
	c.Sockets = []vmm.Socket{vmm.SocketMonitor}
	return c
}

// testConfig is a session of helpers.
func testConfig(base, daemon, builder, actions string, out io.Writer) *Config {
	return &Config{
		Base:        base,
		Daemon:      standIn("daemon", daemon),
		BuildInitrd: func(out string) vmm.Command { return standIn("builder", builder, out) },
		RunSpec:     &bootproto.RunSpec{Version: bootproto.SpecVersion, Argv: []string{"/nix/store/x/bin/x"}},
		Hypervisor:  &fakeMonitor{actions: actions},
		Machine: vmm.Machine{
			Arch: "amd64", Accel: vmm.TCG, CPUs: 1, Memory: 512 << 20, Kernel: "/boot/vmlinuz",
			Store: vmm.Store{Tag: "tvix", Queues: 1},
		},
		ProgramOut: out,
		Log:        slog.New(slog.DiscardHandler),
	}
}

// sessionHelper is a launcher: a session in base that says when its guest runs.
func sessionHelper(base string) int {
	_, err := Run(context.Background(), testConfig(base, "serve", "good", "say=running|hang", os.Stdout))
	if errors.Is(err, context.Canceled) {
		return 0
	}
	return 1
}
