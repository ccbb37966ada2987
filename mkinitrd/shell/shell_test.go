package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// TestMain is the shell itself when the tests start it as one.
func TestMain(m *testing.M) {
	if os.Getenv("SHELL_UNDER_TEST") == "1" {
		_ = os.Unsetenv("SHELL_UNDER_TEST")
		os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), "SHELL_UNDER_TEST=1", "TERM=xterm", "PS1=")
	cmd.Dir = t.TempDir()
	return cmd
}

func TestScripts(t *testing.T) {
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("echo $0 $# \"$2\"\nexit 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		args   []string
		stdin  string
		status int
		out    string
	}{
		{"command", []string{"-c", "echo a; (exit 3)"}, "", 3, "a\n"},
		{"arguments", []string{"-c", "echo $0 $1 $#", "me", "x y", "z"}, "", 0, "me x y 2\n"},
		{"file", []string{script, "a", "b c"}, "", 7, script + " 2 b c\n"},
		{"missing file", []string{"/none"}, "", 127, ""},
		{"input", nil, "echo a | wc -l; for i in 1 2; do echo n$i; done\nexit 4\necho no\n", 4, "1\nn1\nn2\n"},
		{"input shared with a command", nil, "false || echo $?\n", 0, "1\n"},
		{"errexit", []string{"-e", "-c", "false; echo no"}, "", 1, ""},
		{"login", []string{"-l", "-c", "echo a''b"}, "", 0, "ab\n"},
		{"kill", []string{"-c", "kill -0 $$ && command kill -s TERM $$; echo no"}, "", -1, ""}, // ended by it
		{"kill lists", []string{"-c", "kill -l 9 143"}, "", 0, "KILL\nTERM\n"},
		{"kill what is none", []string{"-c", "kill x; echo $?; kill -NONE 1; echo $?; kill %1; kill; kill -s"}, "", 1, "1\n1\n"},
		{"umask", []string{"-c", "umask 027; umask; : >f; stat -c %a f; umask 9"}, "", 1, "0027\n640\n"},
		{"ulimit", []string{"-c", "ulimit -n 100; ulimit -n; sh -c 'ulimit -n'; ulimit -c 0; ulimit -Hc; ulimit -Z"}, "", 1, "100\n100\n0\n"},
		{"no jobs", []string{"-c", "jobs; fg || echo none; history; resize || echo no size"}, "", 0, "none\nno size\n"},
		{"unknown command", []string{"-c", "no-such-command"}, "", 127, ""},
		{"unknown option", []string{"-Z"}, "", 2, ""},
		{"no command", []string{"-c"}, "", 2, ""},
		{"syntax error", []string{"-c", "if"}, "", 2, ""},
		{"killed by a signal", []string{"-c", "sh -c 'kill -9 $$'"}, "", 137, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(t, tt.args...)
			var out, errOut bytes.Buffer
			cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(tt.stdin), &out, &errOut
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != tt.status || out.String() != tt.out {
				t.Errorf("status %d, output %q, want %d, %q; stderr %s", got, out.String(), tt.status, tt.out, errOut.String())
			}
		})
	}
}

func TestOptions(t *testing.T) {
	text := func(s string) *string { return &s }
	tests := []struct {
		args string
		want options
	}{
		{"", options{}},
		{"-l", options{}},
		{"-ec cmd", options{command: text("cmd"), name: "sh", set: []string{"-e"}, args: []string{}}},
		{"-c cmd name a -b", options{command: text("cmd"), name: "name", args: []string{"a", "-b"}}},
		{"-x +u -o pipefail file -c", options{file: "file", name: "file", set: []string{"-x", "+u", "-o", "pipefail"}, args: []string{"-c"}}},
		{"-i -- -file", options{file: "-file", name: "-file", interactive: true, args: []string{}}},
	}
	for _, tt := range tests {
		got, err := parseOptions(strings.Fields(tt.args))
		if len(got.args) == 0 && len(tt.want.args) == 0 {
			got.args, tt.want.args = nil, nil
		}
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v, want %+v", tt.args, got, err, tt.want)
		}
	}
}

// console is a shell on a pseudo-terminal.
type console struct {
	t    *testing.T
	tty  *os.File
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func start(t *testing.T, cmd *exec.Cmd) *console {
	t.Helper()
	return startSized(t, cmd, pty.Winsize{Rows: 24, Cols: 200})
}

func startSized(t *testing.T, cmd *exec.Cmd, size pty.Winsize) *console {
	t.Helper()
	f, err := pty.StartWithSize(cmd, &size)
	if err != nil {
		t.Fatal(err)
	}
	c := &console{t: t, tty: f, more: make(chan struct{}, 1)}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = f.Close() })
	go func() {
		buf := make([]byte, 1024)
		for {
			n, err := f.Read(buf)
			c.mu.Lock()
			c.text.Write(buf[:n])
			c.mu.Unlock()
			select {
			case c.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	return c
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

func (c *console) expect(from int, want string) int {
	c.t.Helper()
	limit := time.After(30 * time.Second)
	for {
		if s := c.String(); len(s) >= from {
			if i := strings.Index(s[from:], want); i >= 0 {
				return from + i + len(want)
			}
		}
		select {
		case <-c.more:
		case <-limit:
			c.t.Fatalf("no %q after %d in:\n%q", want, from, c.String())
		}
	}
}

func (c *console) send(s string) {
	c.t.Helper()
	if _, err := c.tty.WriteString(s); err != nil {
		c.t.Fatal(err)
	}
}

func TestInteractive(t *testing.T) {
	cmd := command(t)
	if err := os.WriteFile(filepath.Join(cmd.Dir, "a long name"), []byte("content\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(cmd.Dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "PS1=% ")
	c := start(t, cmd)
	at := 0
	step := func(send, want string) {
		t.Helper()
		at = c.expect(at, "% ")
		c.send(send)
		at = c.expect(at, want)
	}
	step("echo rea''dy\r", "\r\nready")
	step("\x1b[A\r", "\r\nready") // history
	step("for i in 1 2\r", "> ")  // continuation
	c.send("do echo n''$i; done\r")
	at = c.expect(at, "\r\nn2")
	step("cat a\t\r", "\r\ncontent") // completion of a file, quoted
	step("cd su\t\r", "")
	step("pwd\r", "/sub")
	step("echo gone\x03", "^C") // interrupt while editing
	step("echo status $?\r", "\r\nstatus 130")
	step("echo g''o; sleep 1000\r", "\r\ngo\r\n")
	c.send("\x03") // interrupt a command
	step("echo status $?\r", "\r\nstatus 130")
	step("echo g''o; while :; do :; done\r", "\r\ngo\r\n")
	c.send("\x03") // interrupt the shell's own loop
	step("echo status $?\r", "\r\nstatus 130")
	step("echo g''o; cat\r", "\r\ngo\r\n")
	c.send("\x1atyped\r\x04") // the suspend key is a character
	at = c.expect(at, "typed\r\n")
	step("stty raw -echo; echo x\r", "x")
	step("echo a | grep -c a; (exit 5)\r", "\r\n1\r\n") // the terminal is sound again
	step("no-such-command\r", "not found")
	step("echo 'a\r", "> ") // interrupt a continuation
	c.send("\x03")
	step("exit 3\r", "")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 3 {
		t.Errorf("status %d; %q", code, c.String())
	}
}

func TestEndOfInput(t *testing.T) {
	cmd := command(t)
	cmd.Env = append(cmd.Env, "PS1=% ")
	c := start(t, cmd)
	at := c.expect(0, "% ")
	c.send("(exit 6)\r")
	c.expect(at+8, "% ")
	c.send("\x04")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 6 {
		t.Errorf("status %d; %q", code, c.String())
	}
}

func TestDefaultPrompt(t *testing.T) {
	cmd := command(t)
	var env []string
	for _, e := range cmd.Env {
		if !strings.HasPrefix(e, "PS1=") {
			env = append(env, e)
		}
	}
	cmd.Env = env
	c := start(t, cmd)
	c.expect(0, cmd.Dir+" $ ")
}

func TestWordStart(t *testing.T) {
	for line, want := range map[string]string{"": "", "ls": "ls", "ls a": "a", `ls a\ b`: `a\ b`, "a|b": "b", "x >/tmp/f": "/tmp/f", "ls ": ""} {
		if got := line[wordStart(line):]; got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// TestSerialLine is at the end of a line whose size nobody knows but the
// terminal.
func TestSerialLine(t *testing.T) {
	cmd := command(t)
	cmd.Env = append(cmd.Env, "PS1=% ")
	c := startSized(t, cmd, pty.Winsize{})
	at := c.expect(0, askCursor)
	c.send("ech\x1b[33;99Ro on''e\r") // what is typed meanwhile is not lost
	at = c.expect(at, "one")
	at = c.expect(at, askCursor)
	c.send("\x1b[40;120R")
	c.expect(at, "% ")
	c.send("resize; stty size\r")
	at = c.expect(at, askCursor)
	c.send("\x1b[41;121R")
	at = c.expect(at, "COLUMNS=121 LINES=41")
	at = c.expect(at, "41 121")
	at = c.expect(at, askCursor)
	c.send("\x1b[41;121R")
	at = c.expect(at, "% ")
	c.send("history | tail -n 2; clear; kill -1 $$\r")
	at = c.expect(at, "2  resize; stty size")
	c.expect(at, "\x1b[H\x1b[2J")
	_ = cmd.Wait()
}
