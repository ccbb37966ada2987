package vmm

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// conversation is a connection on which the other side has already said all.
type conversation struct {
	io.Reader
	sent bytes.Buffer
}

func (c *conversation) Write(b []byte) (int, error) { return c.sent.Write(b) }

const qmpGreeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}` + "\r\n" + `{"return": {}}` + "\r\n"

func TestMonitor(t *testing.T) {
	qemu := func(reason string) string {
		return `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "` + reason + `"}}` + "\r\n"
	}
	ch := func(source, event string) string {
		return "{\n  \"timestamp\": {\"secs\": 0, \"nanos\": 1},\n  \"source\": \"" + source + "\",\n  \"event\": \"" + event + "\",\n  \"properties\": null\n}\n\n"
	}
	tests := []struct {
		name string
		h    Hypervisor
		text string
		want []End
		err  string
	}{
		{"qemu power-off", &QEMU{}, qmpGreeting + qemu("guest-shutdown"), []End{EndPowerOff}, ""},
		{"qemu reset", &QEMU{}, qmpGreeting + qemu("guest-reset"), []End{EndReset}, ""},
		{"qemu panic", &QEMU{}, qmpGreeting + `{"event": "GUEST_PANICKED", "data": {"action": "shutdown"}}` + qemu("guest-reset"), []End{EndPanic}, ""},
		{"qemu panic by reason", &QEMU{}, qmpGreeting + qemu("guest-panic"), []End{EndPanic}, ""},
		{"qemu told to end", &QEMU{}, qmpGreeting + qemu("host-signal"), []End{EndStopped}, ""},
		{"qemu other events", &QEMU{}, qmpGreeting + `{"event": "RESUME"} {"event": "STOP", "data": 3}`, nil, ""},
		{"qemu cut event", &QEMU{}, qmpGreeting + `{"event": "SHUTD`, nil, ""},
		{"qemu nonsense", &QEMU{}, "hello", nil, "qemu monitor"},
		{"qemu endless event", &QEMU{}, `{"event": "` + strings.Repeat("x", 2*maxEvent), nil, "more than"},
		{"ch power-off", &CloudHypervisor{}, ch("vm", "booted") + ch("vm", "shutdown") + ch("vm", "deleted"), []End{EndPowerOff}, ""},
		{"ch reset", &CloudHypervisor{}, ch("vm", "booted") + ch("vm", "rebooting"), []End{EndReset}, ""},
		{"ch panic", &CloudHypervisor{}, ch("guest", "panic") + ch("vm", "rebooting"), []End{EndPanic}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &conversation{Reader: strings.NewReader(tt.text)}
			var got []End
			err := tt.h.Monitor(c, func(e End) { got = append(got, e) })
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("ends %q, want %q", got, tt.want)
			}
		})
	}
}

// FuzzMonitor holds that no monitor's words do harm, and that every end which
// is told has its word in the text.
func FuzzMonitor(f *testing.F) {
	f.Add([]byte(qmpGreeting + `{"event": "SHUTDOWN", "data": {"reason": "guest-reset"}}`))
	f.Add([]byte(`{"source": "vm", "event": "rebooting"} {"source": "guest", "event": "panic"}`))
	f.Add([]byte(`{"a": [[[[1e999]]]]} 1 "x" null`))
	ends := []End{EndPowerOff, EndReset, EndPanic, EndStopped}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, h := range []Hypervisor{&QEMU{}, &CloudHypervisor{}} {
			c := &conversation{Reader: bytes.NewReader(data)}
			_ = h.Monitor(c, func(e End) {
				if !slices.Contains(ends, e) || len(data) < 20 {
					t.Errorf("end %q of %q", e, data)
				}
			})
		}
	})
}

// TestThreads holds that the guest's processors are told apart, whatever order
// QEMU lists them in.
func TestThreads(t *testing.T) {
	for answer, want := range map[string][]int{
		`[{"cpu-index": 1, "thread-id": 12}, {"cpu-index": 0, "thread-id": 11}]`: {11, 12},
		`[{"cpu-index": 2, "thread-id": 12}]`:                                    nil,
		`[{"cpu-index": 0, "thread-id": 0}]`:                                     nil,
		`{}`:                                                                     nil,
	} {
		ours, theirs := net.Pipe()
		q := &QEMU{}
		done := make(chan error, 1)
		go func() { done <- q.Monitor(ours, func(End) {}) }()
		go func() {
			lines := bufio.NewScanner(theirs)
			for lines.Scan() {
				reply := `{"return": {}}`
				if strings.Contains(lines.Text(), "query-cpus-fast") {
					reply = `{"return": ` + answer + `, "id": 1}`
				}
				_, _ = io.WriteString(theirs, reply+"\n")
			}
		}()
		got, err := q.Threads(ours)
		if !slices.Equal(got, want) || (err == nil) != (want != nil) {
			t.Errorf("%s: %v, %v; want %v", answer, got, err, want)
		}
		_ = theirs.Close()
		_ = ours.Close()
		<-done
	}
}
