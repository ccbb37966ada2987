package vhostuser_test

import (
	"testing"

	"golang.org/x/sys/unix"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// BenchmarkRequest is one request of 100 bytes through a ring and back. The
// floor is what no transport can do without: waking the other side and being
// woken, by two eventfds.
func BenchmarkRequest(b *testing.B) {
	b.Run("ring", func(b *testing.B) {
		d := startDaemon(b, echo)
		f := d.connect(b, allFeatures)
		if err := f.ShareMemory(); err != nil {
			b.Fatal(err)
		}
		q := newQueue(b, f, 1, allFeatures)
		q.WriteDescriptors(q.Desc, 0, []vt.Descriptor{{Offset: q.in, Len: 100}, {Offset: q.out, Len: 100, Write: true}})
		b.ReportAllocs()
		for b.Loop() {
			if err := q.Submit(0); err != nil {
				b.Fatal(err)
			}
			if _, _, err := q.Wait(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("floor", func(b *testing.B) {
		var fds [2]int
		for i := range fds {
			var err error
			if fds[i], err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
				b.Fatal(err)
			}
			defer unix.Close(fds[i])
		}
		pass := func(from, to int) error {
			var buf [8]byte
			if _, err := unix.Read(from, buf[:]); err != nil {
				return err
			}
			_, err := unix.Write(to, buf[:])
			return err
		}
		go func() {
			for pass(fds[0], fds[1]) == nil { // it ends with the process
			}
		}()
		for b.Loop() {
			if _, err := unix.Write(fds[0], vt.U64(1)); err != nil {
				b.Fatal(err)
			}
			var buf [8]byte
			if _, err := unix.Read(fds[1], buf[:]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
