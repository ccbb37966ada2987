package virtqueue

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"unsafe"
)

const (
	guestBase = 0x1000_0000
	userBase  = 0x7f00_0000
	memSize   = 1 << 16
	queueSize = 8

	descAt, availAt, usedAt, dataAt = 0, 0x1000, 0x2000, 0x4000
)

// driver is the guest's side of a queue in plain memory.
type driver struct {
	mem   []byte
	avail uint16
}

// newDriver makes guest memory of two regions, with a hole behind the second.
func newDriver(t testing.TB, c Config) (*driver, *Queue) {
	t.Helper()
	// An allocation of words, for the alignment that a mapping has.
	words := make([]uint64, 2*memSize/8)
	d := &driver{mem: unsafe.Slice((*byte)(unsafe.Pointer(&words[0])), 2*memSize)}
	return d, d.restart(t, c)
}

func (d *driver) memory(t testing.TB) *Memory {
	t.Helper()
	mem, err := NewMemory([]Region{
		{guestBase + memSize, userBase + 4*memSize, d.mem[memSize:]},
		{guestBase, userBase, d.mem[:memSize:memSize]},
	})
	if err != nil {
		t.Fatal(err)
	}
	return mem
}

// config is c with what the driver has set up.
func (d *driver) config(c Config) Config {
	c.Size, c.Desc, c.Available, c.Used = queueSize, userBase+descAt, userBase+availAt, userBase+usedAt
	return c
}

// restart makes the queue of a device that takes the place of the one before.
func (d *driver) restart(t testing.TB, c Config) *Queue {
	t.Helper()
	q, err := New(d.memory(t), d.config(c))
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (d *driver) availIdx() uint16 { return binary.LittleEndian.Uint16(d.mem[availAt+2:]) }
func (d *driver) usedIdx() uint16  { return binary.LittleEndian.Uint16(d.mem[usedAt+2:]) }
func (d *driver) usedHead(i uint16) uint32 {
	return binary.LittleEndian.Uint32(d.mem[usedAt+4+8*(int(i)%queueSize):])
}

func (d *driver) desc(table, i int, addr uint64, n uint32, flags, next uint16) {
	b := d.mem[table+16*i:]
	binary.LittleEndian.PutUint64(b, addr)
	binary.LittleEndian.PutUint32(b[8:], n)
	binary.LittleEndian.PutUint16(b[12:], flags)
	binary.LittleEndian.PutUint16(b[14:], next)
}

func (d *driver) submit(head uint16) {
	binary.LittleEndian.PutUint16(d.mem[availAt+4+2*(int(d.avail)%queueSize):], head)
	d.avail++
	binary.LittleEndian.PutUint16(d.mem[availAt+2:], d.avail)
}

func TestChain(t *testing.T) {
	d, q := newDriver(t, Config{IndirectOK: true})
	copy(d.mem[dataAt:], "hello, ")
	copy(d.mem[dataAt+7:], "world")
	// Two adjacent descriptors become one slice; one across regions becomes two.
	d.desc(descAt, 3, guestBase+dataAt, 7, descNext, 5)
	d.desc(descAt, 5, guestBase+dataAt+7, 5, descNext, 1)
	d.desc(descAt, 1, guestBase+memSize-16, 32, descNext|descWrite, 2)
	d.desc(descAt, 2, guestBase+memSize+16, 100, descWrite, 0)
	d.submit(3)
	var c Chain
	if ok, err := q.Next(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if c.Head != 3 || len(c.Readable) != 1 || string(c.Readable[0]) != "hello, world" {
		t.Errorf("head %d, readable %q", c.Head, c.Readable)
	}
	if len(c.Writable) != 2 || len(c.Writable[0]) != 16 || len(c.Writable[1]) != 116 {
		t.Errorf("writable of %d slices", len(c.Writable))
	}
	if ok, err := q.Next(&c); ok || err != nil {
		t.Errorf("a second chain: %v %v", ok, err)
	}
	q.Push(&c, 42)
	if !q.Publish() {
		t.Error("no interrupt for a guest that did not decline it")
	}
	if !bytes.Equal(d.mem[usedAt:usedAt+12], []byte{0, 0, 1, 0, 3, 0, 0, 0, 42, 0, 0, 0}) {
		t.Errorf("used ring % x", d.mem[usedAt:usedAt+12])
	}
	// The same through an indirect table.
	d.desc(dataAt+0x1000, 0, guestBase+dataAt, 12, descNext, 1)
	d.desc(dataAt+0x1000, 1, guestBase+dataAt+0x100, 64, descWrite, 9)
	d.desc(descAt, 0, guestBase+dataAt+0x1000, 32, descIndirect, 0)
	d.submit(0)
	if ok, err := q.Next(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if len(c.Readable) != 1 || string(c.Readable[0]) != "hello, world" || len(c.Writable) != 1 || len(c.Writable[0]) != 64 {
		t.Errorf("indirect: %q, %d", c.Readable, len(c.Writable))
	}
}

func TestHostileChains(t *testing.T) {
	tests := []struct {
		name  string
		setup func(d *driver)
		err   string
	}{
		{"loop", func(d *driver) {
			d.desc(descAt, 0, guestBase, 1, descNext, 1)
			d.desc(descAt, 1, guestBase, 1, descNext, 0)
		}, "loop"},
		{"next outside of the table", func(d *driver) { d.desc(descAt, 0, guestBase, 1, descNext, 8) }, "descriptor 8"},
		{"address in no region", func(d *driver) { d.desc(descAt, 0, 0x10, 1, 0, 0) }, "no memory"},
		{"behind the last region", func(d *driver) { d.desc(descAt, 0, guestBase+2*memSize-1, 2, 0, 0) }, "no memory"},
		{"wrap around", func(d *driver) { d.desc(descAt, 0, ^uint64(0), 2, 0, 0) }, "no memory"},
		{"readable after writable", func(d *driver) {
			d.desc(descAt, 0, guestBase, 1, descNext|descWrite, 1)
			d.desc(descAt, 1, guestBase, 1, 0, 0)
		}, "follows a writable"},
		{"indirect of odd length", func(d *driver) { d.desc(descAt, 0, guestBase, 17, descIndirect, 0) }, "17 bytes"},
		{"indirect and empty", func(d *driver) { d.desc(descAt, 0, guestBase, 0, descIndirect, 0) }, "0 bytes"},
		{"indirect of huge length", func(d *driver) { d.desc(descAt, 0, guestBase, 1<<31, descIndirect, 0) }, "bytes"},
		{"indirect with next", func(d *driver) { d.desc(descAt, 0, guestBase, 16, descIndirect|descNext, 0) }, "next"},
		{"indirect in indirect", func(d *driver) {
			d.desc(descAt, 0, guestBase+dataAt, 16, descIndirect, 0)
			d.desc(dataAt, 0, guestBase+dataAt, 16, descIndirect, 0)
		}, "within"},
		{"indirect loop", func(d *driver) {
			d.desc(descAt, 0, guestBase+dataAt, 32, descIndirect, 0)
			d.desc(dataAt, 0, guestBase, 1, descNext, 1)
			d.desc(dataAt, 1, guestBase, 1, descNext, 0)
		}, "loop"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, q := newDriver(t, Config{IndirectOK: true})
			tt.setup(d)
			d.submit(0)
			var c Chain
			_, err := q.Next(&c)
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	t.Run("indirect without negotiation", func(t *testing.T) {
		d, q := newDriver(t, Config{})
		d.desc(descAt, 0, guestBase+dataAt, 16, descIndirect, 0)
		d.submit(0)
		if _, err := q.Next(new(Chain)); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
	t.Run("index too far ahead", func(t *testing.T) {
		d, q := newDriver(t, Config{})
		binary.LittleEndian.PutUint16(d.mem[availAt+2:], queueSize+1)
		if _, err := q.Next(new(Chain)); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
	t.Run("head outside of the table", func(t *testing.T) {
		d, q := newDriver(t, Config{})
		d.submit(queueSize)
		if _, err := q.Next(new(Chain)); !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	mem, err := NewMemory([]Region{{guestBase, userBase, make([]byte, memSize)}})
	if err != nil {
		t.Fatal(err)
	}
	good := Config{Size: queueSize, Desc: userBase, Available: userBase + availAt, Used: userBase + usedAt}
	for name, change := range map[string]func(*Config){
		"size 0":           func(c *Config) { c.Size = 0 },
		"size 3":           func(c *Config) { c.Size = 3 },
		"size 65536":       func(c *Config) { c.Size = 1 << 16 },
		"table outside":    func(c *Config) { c.Desc = userBase + memSize - 16 },
		"table misaligned": func(c *Config) { c.Desc = userBase + 8 },
		"avail outside":    func(c *Config) { c.Available = userBase - 4 },
		"avail misaligned": func(c *Config) { c.Available++ },
		"used outside":     func(c *Config) { c.Used = ^uint64(3) },
		"used misaligned":  func(c *Config) { c.Used += 2 },
	} {
		c := good
		change(&c)
		if _, err := New(mem, c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, regions := range map[string][]Region{
		"overlap":     {{0, 0, make([]byte, 10)}, {9, 100, make([]byte, 10)}},
		"empty":       {{0, 0, nil}},
		"wraps":       {{^uint64(0) - 3, 0, make([]byte, 10)}},
		"wraps there": {{0, ^uint64(0) - 3, make([]byte, 10)}},
	} {
		if _, err := NewMemory(regions); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEvents holds the rules of EVENT_IDX (virtio 1.2, 2.7.7 and 2.7.10) over
// the wrap of the 16-bit indices.
func TestEvents(t *testing.T) {
	d, q := newDriver(t, Config{EventIndex: true, Base: 65533})
	d.avail = 65533
	binary.LittleEndian.PutUint16(d.mem[availAt+2:], d.avail)
	q.usedIdx, q.published = 65533, 65533
	usedEvent := func(v uint16) { binary.LittleEndian.PutUint16(d.mem[availAt+4+2*queueSize:], v) }
	availEvent := func() uint16 { return binary.LittleEndian.Uint16(d.mem[usedAt+4+8*queueSize:]) }
	d.desc(descAt, 0, guestBase, 1, 0, 0)
	if q.EnableNotify() || availEvent() != 65533 {
		t.Fatalf("avail_event %d", availEvent())
	}
	for i, tt := range []struct {
		event     uint16 // of the guest: interrupt when this entry is used
		n         int    // entries in one batch
		interrupt bool
	}{
		{65533, 1, true},
		{65533, 1, false}, // already passed
		{0, 2, true},      // the batch is 65535 and 0
		{2, 1, false},     // 1
		{3, 4, true},      // 2 to 5
	} {
		usedEvent(tt.event)
		for range tt.n {
			d.submit(0)
			var c Chain
			if ok, err := q.Next(&c); !ok || err != nil {
				t.Fatal(ok, err)
			}
			q.Push(&c, 0)
		}
		if q.Staged() != tt.n {
			t.Errorf("%d: staged %d", i, q.Staged())
		}
		if got := q.Publish(); got != tt.interrupt {
			t.Errorf("%d: interrupt %v", i, got)
		}
	}
	d.submit(0)
	if !q.EnableNotify() || availEvent() != q.Base() {
		t.Error("a chain that came in the meantime is overlooked")
	}
}

func TestNotifyFlags(t *testing.T) {
	d, q := newDriver(t, Config{})
	q.DisableNotify()
	if d.mem[usedAt] != usedNoNotify {
		t.Error("notifications are not declined")
	}
	if q.EnableNotify() || d.mem[usedAt] != 0 {
		t.Error("notifications are not asked for")
	}
	d.mem[availAt] = availNoInterrupt
	q.Push(&Chain{}, 0)
	if q.Publish() {
		t.Error("interrupt, though the guest declined it")
	}
	if q.Publish() {
		t.Error("interrupt for nothing")
	}
}

// FuzzQueue lets the guest fill all of its memory.
func FuzzQueue(f *testing.F) {
	seed := func(setup func(d *driver)) {
		d := &driver{mem: make([]byte, memSize)}
		setup(d)
		f.Add(d.mem[:dataAt+0x2000], true)
	}
	seed(func(d *driver) {
		d.desc(descAt, 0, guestBase+dataAt, 8, descNext, 1)
		d.desc(descAt, 1, guestBase+dataAt, 8, descWrite, 1)
		d.submit(0)
	})
	seed(func(d *driver) {
		d.desc(descAt, 0, guestBase+dataAt, 32, descIndirect, 0)
		d.desc(dataAt, 0, guestBase+dataAt, 64, descNext, 1)
		d.desc(dataAt, 1, guestBase+memSize-8, 64, descWrite, 1)
		d.submit(0)
	})
	f.Fuzz(func(t *testing.T, data []byte, event bool) {
		d, q := newDriver(t, Config{IndirectOK: true, EventIndex: event})
		copy(d.mem, data)
		var c Chain
		for range 32 { // answers may land in the ring and make more requests
			ok, err := q.Next(&c)
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Fatal(err)
			}
			if err != nil || !ok {
				break
			}
			for _, b := range append(c.Readable, c.Writable...) {
				if len(b) == 0 || len(b) > 2*memSize {
					t.Fatalf("slice of %d bytes", len(b))
				}
			}
			for _, b := range c.Writable {
				b[0]++ // the device writes
			}
			q.Push(&c, 1)
			q.Publish()
		}
		q.EnableNotify()
	})
}

// TestSeeds holds that the seeds of FuzzQueue reach a chain.
func TestSeeds(t *testing.T) {
	d, q := newDriver(t, Config{IndirectOK: true})
	d.desc(descAt, 0, guestBase+dataAt, 32, descIndirect, 0)
	d.desc(dataAt, 0, guestBase+dataAt, 64, descNext, 1)
	d.desc(dataAt, 1, guestBase+memSize-8, 64, descWrite, 1)
	d.submit(0)
	var c Chain
	if ok, err := q.Next(&c); !ok || err != nil || len(c.Writable) != 2 {
		t.Fatal(ok, err, len(c.Writable))
	}
}

func BenchmarkNextPush(b *testing.B) {
	d, q := newDriver(b, Config{EventIndex: true})
	for i := range 3 {
		d.desc(descAt, i, guestBase+dataAt+uint64(i)*0x1000, 64, descNext, uint16(i+1))
	}
	d.desc(descAt, 3, guestBase+dataAt, 4096, descWrite, 0)
	var c Chain
	b.ReportAllocs()
	for b.Loop() {
		d.submit(0)
		if ok, err := q.Next(&c); !ok || err != nil {
			b.Fatal(ok, err)
		}
		q.Push(&c, 16)
		q.Publish()
	}
}
