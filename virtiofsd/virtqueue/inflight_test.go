package virtqueue

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

// TestInflight kills the device at any point and lets another one take its place:
// every request is answered exactly once, in whichever order.
func TestInflight(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		record := make([]byte, InflightSize(queueSize))
		d, q := newDriver(t, Config{EventIndex: seed%2 == 0, Inflight: record})
		for head := range queueSize {
			d.desc(descAt, head, guestBase+dataAt+uint64(head)*64, 64, descWrite, 0)
		}
		var held []Chain // taken by the device that is alive
		open, submitted, answered := map[int]bool{}, 0, 0
		used := uint16(0)
		for range 400 {
			switch r.IntN(5) {
			case 0: // the guest asks
				if head := r.IntN(queueSize); !open[head] {
					open[head] = true
					d.submit(uint16(head))
					submitted++
				}
			case 1:
				var c Chain
				ok, err := q.Next(&c)
				if err != nil {
					t.Fatal(err)
				}
				if ok {
					held = append(held, c)
				}
			case 2:
				if len(held) > 0 {
					i := r.IntN(len(held))
					q.Push(&held[i], 1)
					held = append(held[:i], held[i+1:]...)
				}
			case 3:
				before := bytes.Clone(record)
				q.Publish()
				if r.IntN(4) == 0 { // killed after the guest sees, before it is noted
					copy(record, before)
					q, held = d.restart(t, Config{EventIndex: seed%2 == 0, Inflight: record, Base: d.availIdx()}), nil
				}
			case 4:
				if r.IntN(4) == 0 {
					q, held = d.restart(t, Config{EventIndex: seed%2 == 0, Inflight: record, Base: d.availIdx()}), nil
				}
			}
			for ; used != d.usedIdx(); used++ { // the guest takes its answers
				head := int(d.usedHead(used))
				if !open[head] {
					t.Fatalf("seed %d: chain %d is answered twice", seed, head)
				}
				delete(open, head)
				answered++
			}
		}
		for range queueSize {
			var c Chain
			if ok, err := q.Next(&c); err != nil {
				t.Fatal(err)
			} else if ok {
				held = append(held, c)
			}
		}
		for i := range held {
			q.Push(&held[i], 1)
		}
		q.Publish()
		answered += int(d.usedIdx() - used)
		if answered != submitted {
			t.Fatalf("seed %d: %d requests, %d answers", seed, submitted, answered)
		}
	}
}

// TestInflightOrder holds that what was in flight is handled again in the order
// in which it was taken.
func TestInflightOrder(t *testing.T) {
	record := make([]byte, InflightSize(queueSize))
	d, q := newDriver(t, Config{Inflight: record})
	order := []uint16{7, 3, 1, 5}
	for _, head := range order {
		d.desc(descAt, int(head), guestBase+dataAt, 64, descWrite, 0)
		d.submit(head)
		var c Chain
		if ok, err := q.Next(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	q = d.restart(t, Config{Inflight: record})
	for _, head := range order {
		var c Chain
		if ok, err := q.Next(&c); !ok || err != nil || c.Head != head {
			t.Errorf("chain %d, want %d: %v", c.Head, head, err)
		}
	}
	if q.Base() != 4 {
		t.Errorf("base %d", q.Base())
	}
}

// TestInflightTaken holds that a queue that goes on in the same process does not
// handle again what is still being handled.
func TestInflightTaken(t *testing.T) {
	record := make([]byte, InflightSize(queueSize))
	d, q := newDriver(t, Config{Inflight: record})
	var c Chain
	for head := range uint16(2) {
		d.desc(descAt, int(head), guestBase+dataAt, 64, descWrite, 0)
		d.submit(head)
		if ok, err := q.Next(&c); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	q = d.restart(t, Config{Inflight: record, Taken: []uint16{0, 1}})
	if ok, err := q.Next(&c); ok || err != nil || q.Base() != 2 {
		t.Errorf("%v %v, base %d", ok, err, q.Base())
	}
	q.Push(&Chain{Head: 0}, 0)
	q.Publish()
	q = d.restart(t, Config{Inflight: record, Taken: []uint16{1}})
	if ok, err := q.Next(&c); ok || err != nil || q.Base() != 2 {
		t.Errorf("%v %v, base %d", ok, err, q.Base())
	}
}

func TestInflightRefused(t *testing.T) {
	record := make([]byte, InflightSize(queueSize))
	d, _ := newDriver(t, Config{Inflight: record})
	for what, bad := range map[string]func(b []byte) []byte{
		"short":         func(b []byte) []byte { return b[:len(b)-64] },
		"other version": func(b []byte) []byte { b[8] = 2; return b },
		"other size":    func(b []byte) []byte { b[10] = 4; return b },
	} {
		c := d.config(Config{Inflight: bad(bytes.Clone(record))})
		if _, err := New(d.memory(t), c); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// FuzzInflight lets the front end fill the record.
func FuzzInflight(f *testing.F) {
	record := make([]byte, InflightSize(queueSize))
	record[8], record[10] = 1, queueSize
	f.Add(bytes.Clone(record), uint16(0))
	record[16+16*3], record[12], record[16+16*5] = 1, 5, 1
	f.Add(bytes.Clone(record), uint16(7))
	f.Fuzz(func(t *testing.T, data []byte, used uint16) {
		record := make([]byte, InflightSize(queueSize))
		copy(record, data)
		d, _ := newDriver(t, Config{})
		d.mem[usedAt+2], d.mem[usedAt+3] = byte(used), byte(used>>8)
		q, err := New(d.memory(t), d.config(Config{Inflight: record}))
		if err != nil {
			return
		}
		var c Chain
		for range 40 {
			if ok, err := q.Next(&c); !ok || err != nil {
				break
			}
			q.Push(&c, 0)
			q.Publish()
		}
	})
}

// TestDirtyLog holds that all and only the pages that were written are noted.
func TestDirtyLog(t *testing.T) {
	bits := make([]byte, 1<<14) // as far as the guest's memory
	d, q := newDriver(t, Config{Log: NewDirtyLog(bits), LogUsed: true, UsedAddr: guestBase + usedAt})
	dirty := func() (pages []uint64) {
		for i, b := range bits {
			for j := range 8 {
				if b&(1<<j) != 0 {
					pages = append(pages, uint64(8*i+j))
				}
			}
		}
		clear(bits)
		return pages
	}
	q.EnableNotify()
	dirty()
	d.desc(descAt, 0, guestBase+dataAt, 16, descNext, 1)
	d.desc(descAt, 1, guestBase+dataAt+0x1000-8, 16, descNext|descWrite, 2)
	d.desc(descAt, 2, guestBase+dataAt+0x4000, 0x1000, descWrite, 0)
	d.submit(0)
	var c Chain
	if ok, err := q.Next(&c); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if p := dirty(); len(p) != 0 {
		t.Errorf("pages %#x were not written", p)
	}
	q.Push(&c, 17)
	q.Publish()
	want := map[uint64]bool{(guestBase + usedAt) / 4096: true, (guestBase + dataAt) / 4096: true, (guestBase + dataAt + 0x1000) / 4096: true, (guestBase + dataAt + 0x4000) / 4096: true}
	got := dirty()
	for _, p := range got {
		if !want[p] {
			t.Errorf("page %#x was not written", p)
		}
	}
	if len(got) != len(want) {
		t.Errorf("pages %#x, want %v", got, want)
	}
	NewDirtyLog(make([]byte, 8)).mark(1<<40, 100) // beyond its end
}
