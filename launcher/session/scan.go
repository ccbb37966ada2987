package session

import (
	"bytes"
	"strings"
	"unicode"

	"storeboot/internal/bootproto"
)

// maxLine is how much of a console line is looked at, in bytes: an exit report
// with its mark fits.
const maxLine = bootproto.MaxReport + 4096

// maxLines is how many lines of the console are shown when something fails.
const maxLines = 15

// consoleScan reads a kernel console line by line for what tells how the guest
// ended. It is an io.Writer that never fails.
type consoleScan struct {
	line []byte
	long bool // the rest of the line is dropped

	last       string            // the last line with text
	lines      []string          // the last maxLines of them
	panic      string            // what the kernel said when it gave up
	restarting bool              // the kernel was told to restart
	report     *bootproto.Report // by the console mark; the last one counts
}

func (s *consoleScan) Write(b []byte) (int, error) {
	n := len(b)
	for {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			s.add(b)
			return n, nil
		}
		s.add(b[:i])
		s.endLine()
		b = b[i+1:]
	}
}

func (s *consoleScan) add(b []byte) {
	if room := maxLine - len(s.line); len(b) > room {
		b, s.long = b[:room], true
	}
	s.line = append(s.line, b...)
}

// endLine looks at a line that is complete, or that is the last.
func (s *consoleScan) endLine() {
	line := string(s.line)
	whole := !s.long
	s.line, s.long = s.line[:0], false
	if i := strings.Index(line, bootproto.ReportMark); i >= 0 {
		text := strings.TrimSpace(line[i+len(bootproto.ReportMark):])
		if r, err := bootproto.ParseReport([]byte(text)); err == nil && whole {
			s.report = r
			return
		}
	}
	text := withoutStamp(printable(line))
	if text == "" {
		return
	}
	s.last = text
	if len(s.lines) == maxLines {
		s.lines = s.lines[1:]
	}
	s.lines = append(s.lines, text)
	if p, ok := strings.CutPrefix(text, "Kernel panic - not syncing: "); ok && s.panic == "" {
		s.panic = p
	}
	if text == "reboot: Restarting system" {
		s.restarting = true
	}
}

// withoutStamp removes the kernel's time stamp, "[    1.234567] ".
func withoutStamp(line string) string {
	rest, ok := strings.CutPrefix(line, "[")
	if !ok {
		return line
	}
	stamp, text, ok := strings.Cut(rest, "] ")
	if !ok || strings.Trim(stamp, " .0123456789") != "" {
		return line
	}
	return text
}

// maxShown is the longest text from a guest or a child in a message, in bytes.
const maxShown = 500

// printable makes one line for a person of text from a guest: nothing in it
// moves a cursor, and it is not long.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case r == '\r' || r == unicode.ReplacementChar:
			return -1
		case unicode.IsPrint(r):
			return r
		}
		return '?'
	}, strings.TrimRight(s, "\r\n"))
	s = strings.TrimSpace(s)
	if len(s) > maxShown {
		s = strings.ToValidUTF8(s[:maxShown], "") + "..."
	}
	return s
}
