package bootproto

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func reports() []struct {
	name, text string
	status     int
	err        string
} {
	long := func(n int) string {
		const head, tail = `{"version":1,"outcome":"failed","message":"`, `"}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	return []struct {
		name, text string
		status     int
		err        string
	}{
		{"exited", `{"version":1,"outcome":"exited"}`, 0, ""},
		{"exited with a status", `{"version":1,"outcome":"exited","status":255,"steps":[{"name":"a","start_us":1,"took_us":2}]}`, 255, ""},
		{"signaled", `{"version":1,"outcome":"signaled","signal":64}`, 128 + 64, ""},
		{"failed", `{"version":1,"outcome":"failed","message":"m","step":"s"}`, 1, ""},
		{"failed with a status", `{"version":1,"outcome":"failed","message":"m","status":127}`, 127, ""},
		{"handover", `{"version":1,"outcome":"handover"}`, 0, ""},
		{"padded", "{\"version\":1,\"outcome\":\"exited\"}\x00\x00\x00", 0, ""},
		{"as long as possible", long(MaxReport), 1, ""},
		{"too long", long(MaxReport + 1), 0, "16384 bytes, at most 16383 are possible"},
		{"empty", "", 0, "unexpected EOF"},
		{"only padding", "\x00\x00", 0, "unexpected EOF"},
		{"NUL in front", "\x00{\"version\":1,\"outcome\":\"exited\"}", 0, "invalid character"},
		{"cut", `{"version":1,"outcome":"exi`, 0, "unexpected EOF"},
		{"no version", `{"outcome":"exited"}`, 0, "version 0, this program reads version 1"},
		{"no outcome", `{"version":1}`, 0, `unknown outcome ""`},
		{"unknown outcome", `{"version":1,"outcome":"lost"}`, 0, `unknown outcome "lost"`},
		{"unknown key", `{"version":1,"outcome":"exited","code":1}`, 0, `unknown field "code"`},
		{"negative status", `{"version":1,"outcome":"exited","status":-1}`, 0, "status -1: want 0 to 255"},
		{"large status", `{"version":1,"outcome":"exited","status":256}`, 0, "status 256: want 0 to 255"},
		{"signal 0", `{"version":1,"outcome":"signaled"}`, 0, "signal 0: want 1 to 64"},
		{"signal 65", `{"version":1,"outcome":"signaled","signal":65}`, 0, "signal 65: want 1 to 64"},
		{"failed without a message", `{"version":1,"outcome":"failed"}`, 0, "outcome failed without a message"},
		{"two", `{"version":1,"outcome":"exited"}{}`, 0, "something follows the JSON value"},
		{"number out of range", `{"version":1,"outcome":"exited","status":1e99}`, 0, "cannot unmarshal"},
	}
}

func TestParseReport(t *testing.T) {
	for _, tt := range reports() {
		t.Run(tt.name, func(t *testing.T) {
			r, err := ParseReport([]byte(tt.text))
			checkParsed(t, r == nil, err, "exit report: ", tt.err)
			if err == nil && r.ExitStatus() != tt.status {
				t.Errorf("exit status %d, want %d", r.ExitStatus(), tt.status)
			}
		})
	}
	if _, err := ParseReport(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no data: %v", err)
	}
}

// TestIoctlCommand holds the numbers against include/uapi/asm-generic/ioctl.h:
// direction, size, type and number have 2, 14, 8 and 8 bits.
func TestIoctlCommand(t *testing.T) {
	for n, want := range map[int]uint32{1: 0x40017301, 0x2a: 0x402a7301, MaxReport: 0x7fff7301} {
		if got := IoctlCommand(n); got != want || !IsIoctlReport(got) {
			t.Errorf("%d bytes: %#x, want %#x", n, got, want)
		}
	}
	for _, cmd := range []uint32{0, 0x7301, 0x80017301, 0xc0017301, 0x40017302, 0x40017201, 0x5401} {
		if IsIoctlReport(cmd) {
			t.Errorf("%#x is taken for a report", cmd)
		}
	}
}

func FuzzParseReport(f *testing.F) {
	for _, tt := range reports() {
		f.Add([]byte(tt.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReport(data)
		if err != nil {
			return
		}
		if s := r.ExitStatus(); s < 0 || s > 255 {
			t.Errorf("exit status %d", s)
		}
		// Written again it may be longer than it was (escapes), but says the same.
		again(t, r, func(data []byte) (*Report, error) {
			r := new(Report)
			if err := strict(data, r); err != nil {
				return nil, err
			}
			return r, r.Check()
		})
	})
}

func TestParseEvent(t *testing.T) {
	const report = `"report":{"version":1,"outcome":"exited","status":3}`
	tests := []struct{ name, text, err string }{
		{"ready", `{"event":"ready","time_us":1700000000000000}`, ""},
		{"mounted", `{"event":"mounted","time_us":1,"connection":2}`, ""},
		{"report", `{"event":"report","time_us":1,"connection":1,` + report + `}`, ""},
		{"line end", "{\"event\":\"ready\",\"time_us\":1}\n", ""},
		{"wrong report", `{"event":"report","time_us":1,"report":{"version":1,"outcome":"x"}}`, `exit report: unknown outcome "x"`},
		{"report without one", `{"event":"report","time_us":1}`, "an exit report is missing"},
		{"unknown key", `{"event":"ready","when":1}`, `unknown field "when"`},
		{"empty", "", "unexpected EOF"},
		{"two", `{"event":"ready","time_us":1}{"event":"ready","time_us":1}`, "something follows"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := ParseEvent([]byte(tt.text))
			checkParsed(t, e == nil, err, "store daemon event: ", tt.err)
		})
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte(`{"event":"report","time_us":1,"connection":1,"report":{"version":1,"outcome":"exited","status":3}}`))
	f.Add([]byte(`{"event":"ready","time_us":1700000000000000}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEvent(data)
		if err != nil {
			return
		}
		if e.Kind == EventReport && e.Report == nil {
			t.Error("a report without one")
		}
		again(t, e, ParseEvent)
	})
}

func ExampleReport_ExitStatus() {
	r := Report{Version: SpecVersion, Outcome: OutcomeSignaled, Signal: 9}
	fmt.Println(r.ExitStatus())
	// Output: 137
}
