package virtqueue

import (
	"encoding/binary"
	"fmt"
)

// Chain is one request: what the guest wrote for us and where it wants the
// answer. The slices are guest memory itself.
type Chain struct {
	Head     uint16
	Readable [][]byte
	Writable [][]byte

	mem *Memory // of the slices
}

// Descriptor is one entry of a descriptor table.
type Descriptor struct {
	Addr  uint64
	Len   uint32
	Flags uint16
	Next  uint16
}

// readDescriptor copies a descriptor out of guest memory, once.
func readDescriptor(table []byte, i uint16) Descriptor {
	var b [descSize]byte
	copy(b[:], table[int(i)*descSize:])
	return Descriptor{
		Addr:  binary.LittleEndian.Uint64(b[0:]),
		Len:   binary.LittleEndian.Uint32(b[8:]),
		Flags: binary.LittleEndian.Uint16(b[12:]),
		Next:  binary.LittleEndian.Uint16(b[14:]),
	}
}

// read follows the chain that begins at head.
func (q *Queue) read(c *Chain, head uint16) error {
	c.Head, c.mem = head, q.mem
	c.Readable, c.Writable = c.Readable[:0], c.Writable[:0]
	table, size := q.desc, int(q.size)
	inIndirect := false
	i := head
	for count := 0; ; {
		if int(i) >= size {
			return fmt.Errorf("%w: descriptor %d of a table of %d", ErrInvalid, i, size)
		}
		d := readDescriptor(table, i)
		if d.Flags&descIndirect != 0 {
			var err error
			if table, err = q.indirectTable(d, inIndirect); err != nil {
				return err
			}
			size, inIndirect, i = len(table)/descSize, true, 0
			continue
		}
		if count++; count > size || count > MaxChain {
			return fmt.Errorf("%w: descriptor chain has a loop", ErrInvalid)
		}
		if err := q.add(c, d); err != nil {
			return err
		}
		if d.Flags&descNext == 0 {
			return nil
		}
		i = d.Next
	}
}

func (q *Queue) add(c *Chain, d Descriptor) (err error) {
	if d.Flags&descWrite != 0 {
		c.Writable, err = q.mem.appendGuest(c.Writable, d.Addr, d.Len)
		return err
	}
	if len(c.Writable) > 0 {
		return fmt.Errorf("%w: a readable descriptor follows a writable one", ErrInvalid)
	}
	c.Readable, err = q.mem.appendGuest(c.Readable, d.Addr, d.Len)
	return err
}

// indirectTable finds the table that d names. Its bytes stay in guest memory;
// each descriptor is copied when it is read.
func (q *Queue) indirectTable(d Descriptor, nested bool) ([]byte, error) {
	switch {
	case !q.indirect:
		return nil, fmt.Errorf("%w: an indirect descriptor was not negotiated", ErrInvalid)
	case nested:
		return nil, fmt.Errorf("%w: an indirect table within an indirect table", ErrInvalid)
	case d.Flags&descNext != 0:
		return nil, fmt.Errorf("%w: an indirect descriptor with a next one", ErrInvalid)
	case d.Len == 0 || d.Len%descSize != 0 || d.Len > MaxChain*descSize:
		return nil, fmt.Errorf("%w: an indirect table of %d bytes", ErrInvalid, d.Len)
	}
	var err error
	if q.parts, err = q.mem.appendGuest(q.parts[:0], d.Addr, d.Len); err != nil {
		return nil, err
	}
	if len(q.parts) == 1 {
		return q.parts[0], nil
	}
	var table []byte
	for _, p := range q.parts {
		table = append(table, p...)
	}
	return table, nil
}
