package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// depths are how many requests are in flight.
var depths = []int{1, 32}

// Buffers of a READDIRPLUS, in bytes: what Linux asks for up to 6.17, and later.
const (
	listBuffer      = 4 << 10
	largeListBuffer = 32 << 10
)

// perGiB is the end of the names of rows of processor time.
const perGiB = ": processor time per GiB"

// measure starts the daemon and measures each row once.
func measure(ctx context.Context, o options, d *daemon, t *table) error {
	for range 2 { // it is short, and scatters
		s, err := d.start(ctx)
		if err != nil {
			return err
		}
		t.add(d, "start to ready", "ms", lower, s.ready.Seconds()*1e3)
		s.stop()
	}
	walk := func(part string, dirs, files int) func(*served, *table, *daemon) error {
		return func(s *served, t *table, d *daemon) error { return s.firstWalk(t, d, part, dirs, files) }
	}
	// Each of these has a daemon of its own.
	lives := [][]func(*served, *table, *daemon) error{
		{walk("walk", walkDirs, walkFiles)},
		{walk("short", shortDirs, shortFiles), (*served).walks, (*served).lookups, (*served).attributes, (*served).smallFiles, (*served).reads, (*served).randomReads},
	}
	if o.million {
		lives = append(lives, []func(*served, *table, *daemon) error{walk("million", millionDirs, millionFiles)})
	}
	for _, steps := range lives {
		if err := live(ctx, d, t, steps); err != nil {
			return err
		}
	}
	return nil
}

// live starts the daemon and measures some rows of it.
func live(ctx context.Context, d *daemon, t *table, steps []func(*served, *table, *daemon) error) error {
	s, err := d.start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	for _, step := range steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := step(s, t, d); err != nil {
			return err
		}
	}
	return nil
}

// firstWalk lists a part of the tree that nobody has asked for yet, as find does
// in a guest: one request at a time.
func (s *served) firstWalk(t *table, d *daemon, part string, dirs, files int) error {
	name := fmt.Sprintf("first walk, %d files", dirs*files)
	if !t.wants(name) && !t.wants("memory after it") {
		return nil
	}
	e, err := s.guest.Find(s.root, part)
	if err != nil {
		return err
	}
	rate, err := s.walkOnce(e.Node, 1, listBuffer, dirs*(files+1))
	if err != nil {
		t.fail(d, name, "entries/s", higher, err)
		return nil
	}
	t.add(d, name, "entries/s", higher, rate)
	bytes, err := s.memory()
	if err != nil {
		return err
	}
	t.add(d, name+": memory after it", "MiB", lower, float64(bytes)/(1<<20))
	return nil
}

// walkOnce lists a directory and all below it, and returns entries per second.
func (s *served) walkOnce(node uint64, depth, buffer, want int) (float64, error) {
	w := &walk{k: &kernel{}, size: buffer, dirs: []uint64{node}}
	begin := time.Now()
	if err := s.guest.Run(depth, w.next); err != nil {
		return 0, err
	}
	rate := float64(w.entries) / time.Since(begin).Seconds()
	if w.entries != want {
		return 0, fmt.Errorf("a walk found %d entries, want %d", w.entries, want)
	}
	return rate, nil
}

// walks lists directories that the daemon knows, again and again.
func (s *served) walks(t *table, d *daemon) error {
	e, err := s.guest.Find(s.root, "short")
	if err != nil {
		return err
	}
	const again = 20
	for _, depth := range depths {
		for _, buffer := range []int{listBuffer, largeListBuffer} {
			name := fmt.Sprintf("READDIRPLUS of %d KiB, depth %d", buffer>>10, depth)
			if !t.wants(name) {
				continue
			}
			begin := time.Now()
			for range again {
				if _, err := s.walkOnce(e.Node, depth, buffer, shortDirs*(shortFiles+1)); err != nil {
					return err
				}
			}
			t.add(d, name, "entries/s", higher, again*shortDirs*(shortFiles+1)/time.Since(begin).Seconds())
		}
	}
	return nil
}

// rate sends n requests and returns how many are answered in a second.
func (s *served) rate(depth, n int, request func(i int) vt.FuseRequest) (float64, error) {
	i := 0
	res, err := s.guest.Load(depth, func() (vt.FuseRequest, bool) {
		if i == n {
			return vt.FuseRequest{}, false
		}
		i++
		return request(i - 1), true
	}, nil)
	if err == nil && res.Errors > 0 {
		err = fmt.Errorf("%d of %d requests failed", res.Errors, n)
	}
	return float64(n) / res.Elapsed.Seconds(), err
}

// requestsOf is how many requests a row takes.
func requestsOf(depth int) int { return 20000 + 60000*min(1, depth/32) }

// lookups looks the small files up.
func (s *served) lookups(t *table, d *daemon) error {
	e, err := s.guest.Find(s.root, "small/0000")
	if err != nil {
		return err
	}
	for _, depth := range depths {
		name := fmt.Sprintf("LOOKUP, depth %d", depth)
		if !t.wants(name) {
			continue
		}
		rate, err := s.rate(depth, requestsOf(depth), func(i int) vt.FuseRequest {
			return vt.FuseRequest{Opcode: vt.FuseLookup, Node: e.Node, Payload: append([]byte(baseName(i%smallFiles)), 0), Room: 128}
		})
		if err != nil {
			return err
		}
		t.add(d, name, "1/s", higher, rate)
	}
	return nil
}

// group is how many of the directories of small files a guest knows at once: a
// daemon with a descriptor for each file may have no more.
const group = 50

// small finds the small files of some directories.
func (s *served) small(dirs []int) (list []vt.Entry, err error) {
	for _, i := range dirs {
		dir, err := s.guest.Find(s.root, fmt.Sprintf("small/%04d", i))
		if err != nil {
			return nil, err
		}
		for j := range smallFiles {
			e, err := s.guest.Lookup(dir.Node, baseName(j))
			if err != nil {
				return nil, err
			}
			list = append(list, e)
		}
	}
	return list, nil
}

// forget says that files were looked up once, and are not known any more.
func (s *served) forget(files []vt.Entry) error {
	i := 0
	_, err := s.guest.Load(1, func() (vt.FuseRequest, bool) {
		if i == len(files) {
			return vt.FuseRequest{}, false
		}
		i++
		return vt.FuseRequest{Opcode: vt.FuseForget, Node: files[i-1].Node, Payload: vt.U64(1), NoAnswer: true}, true
	}, nil)
	return err
}

func (s *served) attributes(t *table, d *daemon) error {
	if !t.wants("GETATTR, depth 1") && !t.wants("GETATTR, depth 32") {
		return nil
	}
	files, err := s.small(numbers(0, group))
	if err != nil {
		return err
	}
	payload := make([]byte, 16)
	for _, depth := range depths {
		rate, err := s.rate(depth, requestsOf(depth), func(i int) vt.FuseRequest {
			return vt.FuseRequest{Opcode: vt.FuseGetattr, Node: files[i%len(files)].Node, Payload: payload, Room: 104}
		})
		if err != nil {
			return err
		}
		t.add(d, fmt.Sprintf("GETATTR, depth %d", depth), "1/s", higher, rate)
	}
	return s.forget(files)
}

// numbers are those from first on.
func numbers(first, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = first + i
	}
	return list
}

// smallFiles opens, reads and closes each small file, as cat does; that they are
// found before is not in the time. At depth 1 nobody has read them yet.
func (s *served) smallFiles(t *table, d *daemon) error {
	for _, depth := range depths {
		name := fmt.Sprintf("open, read, close %d files, depth %d", smallDirs*smallFiles, depth)
		if !t.wants(name) {
			continue
		}
		k := &kernel{}
		var spent time.Duration
		for first := 0; first < smallDirs; first += group {
			files, err := s.small(numbers(first, group))
			if err != nil {
				return err
			}
			i := 0
			begin := time.Now()
			err = s.guest.Run(depth, func() vt.Job {
				if i == len(files) {
					return nil
				}
				i++
				return &readFile{k: k, node: files[i-1].Node, size: int(files[i-1].Size)}
			})
			if err != nil {
				return err
			}
			spent += time.Since(begin)
			if err := s.forget(files); err != nil {
				return err
			}
		}
		t.add(d, name, "files/s", higher, smallDirs*smallFiles/spent.Seconds())
	}
	return nil
}

// open opens the large file.
func (s *served) open() (node, handle uint64, err error) {
	e, err := s.guest.Find(s.root, "big")
	if err != nil {
		return 0, 0, err
	}
	if e.Size != bigSize {
		return 0, 0, fmt.Errorf("the file has %d bytes, want %d", e.Size, bigSize)
	}
	handle, err = s.guest.Open(vt.FuseOpen, e.Node)
	return e.Node, handle, err
}

// reads reads the large file from begin to end.
func (s *served) reads(t *table, d *daemon) error {
	node, handle, err := s.open()
	if err != nil {
		return err
	}
	for _, size := range []int{128 << 10, 1 << 20} {
		for _, depth := range depths {
			name := fmt.Sprintf("READ of %d KiB, depth %d", size>>10, depth)
			if !t.wants(name) {
				continue
			}
			before, err := s.cpu()
			if err != nil {
				return err
			}
			payload := vt.ReadPayload(handle, 0, size)
			rate, err := s.rate(depth, bigSize/size, func(i int) vt.FuseRequest {
				binary.LittleEndian.PutUint64(payload[8:], uint64(i)*uint64(size))
				return vt.FuseRequest{Opcode: vt.FuseRead, Node: node, Payload: payload, Room: size}
			})
			if err != nil {
				return err
			}
			after, err := s.cpu()
			if err != nil {
				return err
			}
			t.add(d, name, "GB/s", higher, rate*float64(size)/1e9)
			t.add(d, name+perGiB, "s", lower, (after-before).Seconds()*(1<<30)/bigSize)
		}
	}
	return nil
}

func (s *served) randomReads(t *table, d *daemon) error {
	node, handle, err := s.open()
	if err != nil {
		return err
	}
	const size = 4096
	random := rand.New(rand.NewPCG(1, 2))
	for _, depth := range depths {
		name := fmt.Sprintf("READ of 4 KiB anywhere, depth %d", depth)
		if !t.wants(name) {
			continue
		}
		payload := vt.ReadPayload(handle, 0, size)
		rate, err := s.rate(depth, requestsOf(depth), func(int) vt.FuseRequest {
			binary.LittleEndian.PutUint64(payload[8:], random.Uint64N(bigSize/size)*size)
			return vt.FuseRequest{Opcode: vt.FuseRead, Node: node, Payload: payload, Room: size}
		})
		if err != nil {
			return err
		}
		t.add(d, name, "1/s", higher, rate)
	}
	return nil
}
