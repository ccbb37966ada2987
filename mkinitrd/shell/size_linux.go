package main

import (
	"bytes"
	"io"
	"regexp"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// askCursor goes as far to the right and down as it can be, asks where that
	// is, and goes back, as resize(1) does (ECMA-48: CUP, DSR).
	askCursor = "\x1b7\x1b[r\x1b[999;999H\x1b[6n\x1b8"
	// answerWait is how long a terminal has to answer, at the other end of a
	// serial line.
	answerWait = 500 * time.Millisecond
	// maxTyped bounds what is kept of what was typed meanwhile.
	maxTyped = 4096
)

var cursorAnswer = regexp.MustCompile("\x1b\\[([0-9]{1,5});([0-9]{1,5})R")

// askSize asks the terminal how large it is, and tells the kernel, and thereby
// all programs. It says whether there was an answer. What is typed meanwhile is
// kept for the editor.
func (e *editor) askSize() bool {
	fd := int(e.in.Fd())
	old, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return false
	}
	raw := *old
	raw.Lflag &^= unix.ICANON | unix.ECHO | unix.ISIG
	raw.Iflag &^= unix.ICRNL | unix.IXON
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 0, byte(answerWait/(100*time.Millisecond))
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &raw); err != nil {
		return false
	}
	defer func() { _ = unix.IoctlSetTermios(fd, unix.TCSETS, old) }()
	if _, err := io.WriteString(e.out, askCursor); err != nil {
		return false
	}
	var got []byte
	buf := make([]byte, 256)
	for len(got) < maxTyped {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		got = append(got, buf[:n]...)
		m := cursorAnswer.FindSubmatchIndex(got)
		if m == nil {
			continue
		}
		rows, _ := strconv.ParseUint(string(got[m[2]:m[3]]), 10, 16)
		columns, _ := strconv.ParseUint(string(got[m[4]:m[5]]), 10, 16)
		e.keys.typed = append(e.keys.typed, bytes.Join([][]byte{got[:m[0]], got[m[1]:]}, nil)...)
		if rows == 0 || columns == 0 {
			return false
		}
		return unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(rows), Col: uint16(columns)}) == nil
	}
	e.keys.typed = append(e.keys.typed, got...)
	return false
}
