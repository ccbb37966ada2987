package main

import (
	"errors"
	"io"
)

// endOfText is what a person types to end the input of a terminal in line
// mode: Ctrl-D at the beginning of a line.
const endOfText = 0x04

// lineInput passes on the input for a guest's terminal in line mode, and its
// end, which a console cannot pass on otherwise. The end is said again and
// again: it is lost while a shell changes the terminal's mode.
type lineInput struct {
	r       io.Reader
	wait    func() // between one end and the next; nil for one only
	midLine bool
	end     []byte // what is left of the end, once it has come
	ended   bool
}

func (l *lineInput) Read(b []byte) (int, error) {
	if !l.ended {
		n, err := l.r.Read(b)
		if n > 0 {
			l.midLine = b[n-1] != '\n'
		}
		if n > 0 || !errors.Is(err, io.EOF) {
			if errors.Is(err, io.EOF) {
				err = nil // it comes again
			}
			return n, err
		}
		l.ended = true
		if l.midLine {
			l.end = append(l.end, '\n')
		}
		l.end = append(l.end, endOfText)
	}
	if len(l.end) == 0 {
		if l.wait == nil {
			return 0, io.EOF
		}
		l.wait()
		l.end = append(l.end, endOfText)
	}
	n := copy(b, l.end)
	l.end = l.end[n:]
	return n, nil
}
