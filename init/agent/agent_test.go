package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
)

// peer is the launcher's end of an agent under test.
type peer struct {
	t       *testing.T
	conn    net.Conn
	stopped chan struct{}
}

func newPeer(t *testing.T) *peer {
	ours, theirs := net.Pipe()
	p := &peer{t: t, conn: ours, stopped: make(chan struct{}, 1)}
	go func() { _ = New(theirs, func() { p.stopped <- struct{}{} }).Serve() }()
	t.Cleanup(func() { _ = ours.Close() })
	if f := p.read(); f.Type != bootproto.FrameHello {
		t.Fatalf("the first frame has type %d", f.Type)
	}
	return p
}

func (p *peer) read() bootproto.Frame {
	p.t.Helper()
	f, err := bootproto.ReadFrame(p.conn)
	if err != nil {
		p.t.Fatal(err)
	}
	return f
}

func (p *peer) send(f bootproto.Frame) {
	p.t.Helper()
	if err := bootproto.WriteFrame(p.conn, f); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) exec(stream uint32, spec bootproto.ExecSpec) {
	p.t.Helper()
	spec.Version = bootproto.SpecVersion
	data, err := json.Marshal(spec)
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(bootproto.Frame{Type: bootproto.FrameExec, Stream: stream, Data: data})
}

// finish reads to the end of all streams named, taking their output.
func (p *peer) finish(streams ...uint32) (out map[uint32]*bytes.Buffer, errOut map[uint32]*bytes.Buffer, reports map[uint32]*bootproto.Report) {
	p.t.Helper()
	out, errOut, reports = map[uint32]*bytes.Buffer{}, map[uint32]*bytes.Buffer{}, map[uint32]*bootproto.Report{}
	for _, s := range streams {
		out[s], errOut[s] = &bytes.Buffer{}, &bytes.Buffer{}
	}
	for len(reports) < len(streams) {
		f := p.read()
		switch f.Type {
		case bootproto.FrameStdout:
			out[f.Stream].Write(f.Data)
		case bootproto.FrameStderr:
			errOut[f.Stream].Write(f.Data)
		case bootproto.FrameExit:
			r, err := bootproto.ParseReport(f.Data)
			if err != nil {
				p.t.Fatal(err)
			}
			reports[f.Stream] = r
		}
		if len(f.Data) > 0 && (f.Type == bootproto.FrameStdout || f.Type == bootproto.FrameStderr) {
			p.send(bootproto.TakenFrame(f.Stream, len(f.Data)))
		}
	}
	return out, errOut, reports
}

func TestExec(t *testing.T) {
	tests := []struct {
		name        string
		spec        bootproto.ExecSpec
		out, errOut string
		status      int // as a shell has it
		message     string
	}{
		{"streams and status", bootproto.ExecSpec{Argv: []string{"sh", "-c", "echo out; echo err >&2; exit 3"}}, "out\n", "err\n", 3, ""},
		{"signal", bootproto.ExecSpec{Argv: []string{"/bin/sh", "-c", "kill -9 $$"}}, "", "", 137, ""},
		{"environment and directory", bootproto.ExecSpec{Argv: []string{"sh", "-c", "echo $A $HOME; pwd"}, Env: []string{"A=b c", "HOME=/x"}, Dir: "/usr"}, "b c /x\n/usr\n", "", 0, ""},
		{"missing", bootproto.ExecSpec{Argv: []string{"no-such-program"}}, "", "", 127, "no-such-program"},
		{"not a program", bootproto.ExecSpec{Argv: []string{"/etc/passwd"}}, "", "", 126, "/etc/passwd"},
		{"no directory", bootproto.ExecSpec{Argv: []string{"sh"}, Dir: "/no/such"}, "", "", 126, "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := newPeer(t)
			p.exec(1, tt.spec)
			out, errOut, reports := p.finish(1)
			if r := reports[1]; r.ExitStatus() != tt.status || !strings.Contains(r.Message, tt.message) {
				t.Errorf("report %+v, want status %d", r, tt.status)
			}
			if out[1].String() != tt.out || errOut[1].String() != tt.errOut {
				t.Errorf("output %q, %q", out[1], errOut[1])
			}
		})
	}
}

// TestStreams runs many programs at once, each with input of its own.
func TestStreams(t *testing.T) {
	p := newPeer(t)
	var ids []uint32
	for id := uint32(1); id <= 20; id++ {
		p.exec(id, bootproto.ExecSpec{Argv: []string{"sh", "-c", "cat; echo done"}})
		p.send(bootproto.Frame{Type: bootproto.FrameStdin, Stream: id, Data: fmt.Appendf(nil, "input %d\n", id)})
		p.send(bootproto.Frame{Type: bootproto.FrameStdin, Stream: id})
		ids = append(ids, id)
	}
	out, _, _ := p.finish(ids...)
	for _, id := range ids {
		if want := fmt.Sprintf("input %d\ndone\n", id); out[id].String() != want {
			t.Errorf("stream %d: %q", id, out[id])
		}
	}
}

// TestWindow holds that a program whose output nobody takes stops, and no other
// with it.
func TestWindow(t *testing.T) {
	p := newPeer(t)
	p.exec(1, bootproto.ExecSpec{Argv: []string{"sh", "-c", "head -c 2000000 /dev/zero"}})
	got := 0
	for got <= bootproto.AgentWindow-32<<10 {
		got += len(p.read().Data)
	}
	p.exec(2, bootproto.ExecSpec{Argv: []string{"echo", "other"}})
	for {
		f := p.read()
		if f.Stream == 1 {
			got += len(f.Data)
		}
		if f.Stream == 2 && f.Type == bootproto.FrameExit {
			break
		}
	}
	if got > bootproto.AgentWindow {
		t.Fatalf("%d bytes were sent, %d were allowed", got, bootproto.AgentWindow)
	}
	p.send(bootproto.TakenFrame(1, got))
	out, _, reports := p.finish(1)
	if got += out[1].Len(); got != 2000000 || reports[1].Status != 0 {
		t.Errorf("%d bytes in all, %+v", got, reports[1])
	}
}

func TestTerminal(t *testing.T) {
	p := newPeer(t)
	p.exec(1, bootproto.ExecSpec{Argv: []string{"sh", "-c", "stty size; read x; stty size; tty >/dev/null && echo tty $x"}, Terminal: true, Rows: 30, Columns: 90})
	if f := p.read(); string(f.Data) != "30 90\r\n" {
		t.Errorf("at first %q", f.Data)
	}
	p.send(bootproto.ResizeFrame(1, 40, 100))
	p.send(bootproto.Frame{Type: bootproto.FrameStdin, Stream: 1, Data: []byte("typed\n")})
	out, _, reports := p.finish(1)
	if text := out[1].String(); !strings.HasSuffix(text, "40 100\r\ntty typed\r\n") || reports[1].Status != 0 {
		t.Errorf("%q, %+v", text, reports[1])
	}
}

func TestSignalAndStop(t *testing.T) {
	p := newPeer(t)
	p.exec(1, bootproto.ExecSpec{Argv: []string{"sh", "-c", "echo ready; sleep 60"}})
	for f := p.read(); string(f.Data) != "ready\n"; f = p.read() {
	}
	p.send(bootproto.Frame{Type: bootproto.FrameSignal, Stream: 1, Data: []byte{15}})
	if _, _, reports := p.finish(1); reports[1].Signal != 15 {
		t.Errorf("report %+v", reports[1])
	}
	p.send(bootproto.Frame{Type: bootproto.FrameStop})
	<-p.stopped
	// What cannot be obeyed is dropped.
	p.send(bootproto.Frame{Type: bootproto.FrameSignal, Stream: 9, Data: []byte{15}})
	p.send(bootproto.Frame{Type: bootproto.FrameTaken, Stream: 9, Data: binary.LittleEndian.AppendUint32(nil, 7)})
	p.exec(2, bootproto.ExecSpec{Argv: []string{"echo", "alive"}})
	if out, _, _ := p.finish(2); out[2].String() != "alive\n" {
		t.Errorf("then %q", out[2])
	}
}
