package session

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"storeboot/internal/bootproto"
)

func TestConsoleScan(t *testing.T) {
	report := bootproto.ReportMark + `{"version":1,"outcome":"exited","status":7}`
	tests := []struct {
		name, text string
		last       string
		panic      string
		restarting bool
		status     int // of the report, -1 for none
	}{
		{"empty", "", "", "", false, -1},
		{"lines", "one\r\ntwo\r\n\r\n", "two", "", false, -1},
		{"last line not ended", "one\ntwo", "two", "", false, -1},
		{"time stamps", "[    0.000000] Linux version\n[   12.345678] done\n", "done", "", false, -1},
		{"no time stamp", "[info] done\n", "[info] done", "", false, -1},
		{"panic", "[ 1.0] Kernel panic - not syncing: VFS: x\n[ 1.0] CPU: 0\n[ 1.1] Kernel panic - not syncing: second\n", "Kernel panic - not syncing: second", "VFS: x", false, -1},
		{"restart", "[ 1.0] reboot: Restarting system\n", "reboot: Restarting system", "", true, -1},
		{"report", "hello\r\n" + report + "\r\nbye\n", "bye", "", false, 7},
		{"report after a stamp", "[ 1.0] " + report, "", "", false, 7},
		{"report that is none", bootproto.ReportMark + "{}\n", strings.TrimSpace(bootproto.ReportMark) + " {}", "", false, -1},
		{"control characters", "a\x1b[2Jb\x00c\n", "a?[2Jb?c", "", false, -1},
		{"report behind a long line", strings.Repeat("x", 3*maxLine) + "\n" + report + "\n", strings.Repeat("x", maxShown) + "...", "", false, 7},
		{"report at the end of a long line", strings.Repeat("x", 3*maxLine) + report + "\n", strings.Repeat("x", maxShown) + "...", "", false, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, size := range []int{1, 3, 1 << 20} {
				var s consoleScan
				for rest := []byte(tt.text); len(rest) > 0; {
					n := min(size, len(rest))
					_, _ = s.Write(rest[:n])
					rest = rest[n:]
				}
				s.endLine()
				status := -1
				if s.report != nil {
					status = s.report.Status
				}
				if s.last != tt.last || s.panic != tt.panic || s.restarting != tt.restarting || status != tt.status {
					t.Errorf("by %d: last %.60q, panic %q, restarting %v, status %d", size, s.last, s.panic, s.restarting, status)
				}
			}
		})
	}
}

// FuzzConsoleScan holds that a guest's console costs bounded memory, and that
// what is shown of it is one printable line.
func FuzzConsoleScan(f *testing.F) {
	f.Add([]byte("[ 1.0] Kernel panic - not syncing: x\nreboot: Restarting system\n"), 3)
	f.Add([]byte(bootproto.ReportMark+`{"version":1,"outcome":"failed","message":"m"}`), 1000)
	f.Add([]byte("\xff\xfe\x1b]0;title\x07\r\n\u202e"), 1)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		var s consoleScan
		for rest := data; len(rest) > 0; {
			n := max(1, min(size, len(rest)))
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		s.endLine()
		if cap(s.line) > 4*maxLine {
			t.Errorf("keeps %d bytes", cap(s.line))
		}
		for _, text := range []string{s.last, s.panic} {
			if len(text) > maxShown+3 || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("shows %q", text)
			}
		}
		if s.report != nil && !bytes.Contains(data, []byte(bootproto.ReportMark)) {
			t.Errorf("a report of %q", data)
		}
	})
}

func TestTail(t *testing.T) {
	tests := []struct{ text, want string }{
		{"", ""},
		{"one\n", "one"},
		{"one\ntwo\n\n", "two"},
		{"virtiofsd: wrong\nvirtiofsd: see 'virtiofsd serve --help'\n", "virtiofsd: wrong"},
		{strings.Repeat("x\n", maxTail) + "end", "end"},
		{"a\x1b[31mb", "a?[31mb"},
	}
	for _, tt := range tests {
		var also bytes.Buffer
		tail := &tail{also: &also}
		for _, b := range []byte(tt.text) {
			_, _ = tail.Write([]byte{b})
		}
		if got := tail.lastLine(); got != tt.want || also.String() != tt.text || len(tail.buf) > maxTail {
			t.Errorf("%.20q: %q, want %q; keeps %d bytes", tt.text, got, tt.want, len(tail.buf))
		}
	}
}
