package nar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// expect reads words that have to be there.
func (n *Reader) expect(words ...string) error {
	for _, want := range words {
		got, err := n.word()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%q where %q has to be", got, want)
		}
	}
	return nil
}

// word reads one of the words of the format.
func (n *Reader) word() (string, error) {
	b, err := n.bytes(len(magic))
	return string(b), err
}

// bytes reads a string of at most limit bytes, which is valid until the next
// read.
func (n *Reader) bytes(limit int) ([]byte, error) {
	size, err := n.number()
	if err != nil {
		return nil, err
	}
	if size > uint64(limit) {
		return nil, fmt.Errorf("a string of %d bytes where at most %d are allowed", size, limit)
	}
	b := n.buf[:size]
	if _, err := io.ReadFull(n.r, b); err != nil {
		return nil, early(err)
	}
	return b, n.zeros(padding(size))
}

func (n *Reader) number() (uint64, error) {
	var b [8]byte
	_, err := io.ReadFull(n.r, b[:])
	return binary.LittleEndian.Uint64(b[:]), early(err)
}

// zeros reads padding.
func (n *Reader) zeros(count int) error {
	var b [8]byte
	if _, err := io.ReadFull(n.r, b[:count]); err != nil {
		return early(err)
	}
	if b != [8]byte{} {
		return errors.New("padding that is not zero")
	}
	return nil
}

// early is err, where the end of the input is too early.
func early(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
