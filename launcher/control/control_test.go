package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/guestagent"
	"storeboot/launcher/vmm"
)

// fakeVM has a guest whose agent runs "programs" of this test: each echoes its
// input in upper case and ends with the status that is its first argument.
type fakeVM struct {
	mux    *guestagent.Mux
	called chan string
}

func newFakeVM(t *testing.T) *fakeVM {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
	go fakeAgent(theirs)
	return &fakeVM{guestagent.New(ours), make(chan string, 8)}
}

func fakeAgent(conn net.Conn) {
	send := func(f bootproto.Frame) { _ = bootproto.WriteFrame(conn, f) }
	send(bootproto.Frame{Type: bootproto.FrameHello})
	status := map[uint32]int{}
	for {
		f, err := bootproto.ReadFrame(conn)
		if err != nil {
			return
		}
		switch f.Type {
		case bootproto.FrameExec:
			var spec bootproto.ExecSpec
			if json.Unmarshal(f.Data, &spec) == nil {
				n := 0
				_, _ = fmt.Sscan(spec.Argv[1], &n)
				status[f.Stream] = n
			}
		case bootproto.FrameStdin:
			send(bootproto.TakenFrame(f.Stream, len(f.Data)))
			if len(f.Data) > 0 {
				send(bootproto.Frame{Type: bootproto.FrameStdout, Stream: f.Stream, Data: bytes.ToUpper(f.Data)})
				continue
			}
			send(bootproto.Frame{Type: bootproto.FrameStderr, Stream: f.Stream, Data: []byte("bye\n")})
			data, _ := json.Marshal(bootproto.Report{Version: bootproto.SpecVersion, Outcome: bootproto.OutcomeExited, Status: status[f.Stream]})
			send(bootproto.Frame{Type: bootproto.FrameExit, Stream: f.Stream, Data: data})
		}
	}
}

func (v *fakeVM) PowerOff() error { v.called <- "power off"; return nil }
func (v *fakeVM) Kill()           { v.called <- "kill" }
func (v *fakeVM) Resize(s vmm.Size) error {
	v.called <- "resize " + s.String()
	return errors.New("no balloon")
}
func (v *fakeVM) Exec(spec *bootproto.ExecSpec, client io.ReadWriter) error {
	<-v.mux.Ready()
	return v.mux.Exec(spec, client)
}

func serve(t *testing.T, vm VM, console *Console) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "c")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	s, err := Serve(path, vm, console)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); _ = os.RemoveAll(dir) })
	return path
}

func TestRequests(t *testing.T) {
	vm := newFakeVM(t)
	path := serve(t, vm, nil)
	for _, tt := range []struct {
		req         Request
		called, err string
	}{
		{Request{Op: OpPowerOff}, "power off", ""},
		{Request{Op: OpKill}, "kill", ""},
		{Request{Op: OpResize, Memory: 1 << 30}, "resize 1G", "no balloon"},
		{Request{Op: OpAttach}, "", "no console to attach to"},
		{Request{Op: OpExec}, "", "exec of nothing"},
		{Request{Op: "dance"}, "", `no such request: "dance"`},
	} {
		c, err := Do(path, tt.req)
		if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: %v", tt.req.Op, err)
		}
		if c != nil {
			_ = c.Close()
		}
		if tt.called != "" {
			if got := <-vm.called; got != tt.called {
				t.Errorf("%s: called %s", tt.req.Op, got)
			}
		}
	}
	// What is no request is answered or dropped.
	for _, text := range []string{"\n", "{}\n", "x\n", strings.Repeat("x", 2*maxRequest)} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(conn, text)
		if _, err := io.ReadAll(conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%.10q keeps the server waiting", text)
		}
		_ = conn.Close()
	}
	if _, err := Do(path+"-none", Request{Op: OpKill}); err == nil {
		t.Error("a socket that is not there")
	}
}

// TestExec runs programs at once, with more input and output than fits anywhere.
func TestExec(t *testing.T) {
	vm := newFakeVM(t)
	path := serve(t, vm, nil)
	done := make(chan error)
	for i := range 4 {
		go func() {
			c, err := Do(path, Request{Op: OpExec, Exec: &bootproto.ExecSpec{Version: bootproto.SpecVersion, Argv: []string{"x", fmt.Sprint(i)}}})
			if err != nil {
				done <- err
				return
			}
			defer c.Close()
			in := strings.Repeat(fmt.Sprintf("text %d\n", i), 100_000)
			go func() { _ = c.Send(strings.NewReader(in), true) }()
			var out, errOut bytes.Buffer
			r, err := c.Receive(&out, &errOut)
			if err == nil && (r == nil || r.Status != i || out.String() != strings.ToUpper(in) || errOut.String() != "bye\n") {
				err = fmt.Errorf("program %d: %+v, %d bytes of %d, %q", i, r, out.Len(), len(in), errOut.String())
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	// A client that goes leaves the others alone.
	c, err := Do(path, Request{Op: OpExec, Exec: &bootproto.ExecSpec{Version: bootproto.SpecVersion, Argv: []string{"x", "0"}}})
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	c, err = Do(path, Request{Op: OpExec, Exec: &bootproto.ExecSpec{Version: bootproto.SpecVersion, Argv: []string{"x", "3"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { _ = c.Send(strings.NewReader("a"), true) }()
	if r, err := c.Receive(io.Discard, io.Discard); err != nil || r == nil || r.Status != 3 {
		t.Errorf("after one that left: %+v, %v", r, err)
	}
}

func TestConsole(t *testing.T) {
	console := NewConsole()
	path := serve(t, newFakeVM(t), console)
	if _, err := console.Write([]byte("before ")); err != nil {
		t.Fatal(err)
	}
	var out [2]bytes.Buffer
	ended := make(chan error)
	for i := range 2 {
		c, err := Do(path, Request{Op: OpAttach})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		go func() {
			_, err := c.Receive(&out[i], io.Discard)
			ended <- err
		}()
		go func() { _ = c.Send(strings.NewReader(fmt.Sprintf("<%d>", i)), false) }()
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(console, got); err != nil || string(got) != "<0><1>" && string(got) != "<1><0>" {
		t.Errorf("typed %q, %v", got, err)
	}
	_, _ = console.Write([]byte("after"))
	console.Close()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	for i := range out {
		if out[i].String() != "before after" {
			t.Errorf("client %d saw %q", i, out[i].String())
		}
	}
	if _, err := console.Read(got); err != io.EOF {
		t.Errorf("read after the end: %v", err)
	}
}
