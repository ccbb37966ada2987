package vhostusertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"
)

// Daemon is a vhost-user-fs daemon that the conformance suite is to be run
// against.
type Daemon struct {
	// Start starts the daemon, or says where it listens if it serves many
	// guests. It ends with the test.
	Start func(t *testing.T) (socket string)
	// Root is the path from the root of the share to the tree of WriteFixture,
	// "" for the root itself.
	Root string
	// Protocol are the protocol features that have to be offered.
	Protocol uint64
	// Many says that the daemon serves many guests, one after another and at
	// once.
	Many bool
	// StableNodes says that inode numbers are the same for the next connection.
	StableNodes bool
	// BaseIsLate says that GET_VRING_BASE may tell of a base from before the last
	// answers (QEMU's daemon reads it before its queue has stopped): then the
	// suite stops a queue when nothing is in flight.
	BaseIsLate bool
}

// Conformance holds that a daemon serves a tree as a VMM and its guest expect.
// What is optional in the protocol is tried if the daemon offers it.
func Conformance(t *testing.T, d Daemon) {
	rings := map[string]GuestOptions{
		"usual":          {},
		"no event index": {Features: FeatureIndirect},
		"no indirect":    {Features: FeatureEventIdx, Depth: 3},
		"least":          {Features: FeatureVersion1, Depth: 3},
		"small queue":    {QueueSize: 128, Depth: 16},
	}
	for name, o := range rings {
		t.Run("read "+name, func(t *testing.T) { d.mount(t, o).read() })
	}
	t.Run("negotiation", d.negotiation)
	t.Run("lookup", func(t *testing.T) { d.mount(t, GuestOptions{}).lookup() })
	t.Run("list", func(t *testing.T) { d.mount(t, GuestOptions{}).list() })
	t.Run("errors", func(t *testing.T) { d.mount(t, GuestOptions{}).errors() })
	t.Run("many in flight", func(t *testing.T) { d.mount(t, GuestOptions{}).manyInFlight() })
	t.Run("stop and start", func(t *testing.T) { d.mount(t, GuestOptions{}).stopAndStart(d.BaseIsLate) })
	t.Run("reboot", func(t *testing.T) { d.mount(t, GuestOptions{}).reboot() })
	t.Run("memory by regions", d.memoryByRegions)
	t.Run("queue of high priority", func(t *testing.T) { d.mount(t, GuestOptions{}).highPriority() })
	t.Run("in flight", d.inFlight)
	t.Run("many guests", d.manyGuests)
}

// mounted is a guest in a test, that knows the tree.
type mounted struct {
	*Guest
	t    *testing.T
	root uint64
}

func (d Daemon) mount(t *testing.T, o GuestOptions) *mounted {
	t.Helper()
	return d.mountAt(t, d.Start(t), o)
}

func (d Daemon) mountAt(t *testing.T, socket string, o GuestOptions) *mounted {
	t.Helper()
	g, err := Mount(socket, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	m := &mounted{Guest: g, t: t}
	m.findRoot(d.Root)
	return m
}

func (m *mounted) findRoot(path string) {
	m.t.Helper()
	m.root = 1
	if path != "" {
		m.root = m.find(1, path).Node
	}
}

func (m *mounted) find(from uint64, path string) Entry {
	m.t.Helper()
	e, err := m.Find(from, path)
	if err != nil {
		m.t.Fatal(err)
	}
	return e
}

func (m *mounted) open(path string) (node, handle uint64) {
	m.t.Helper()
	e := m.find(m.root, path)
	handle, err := m.Open(FuseOpen, e.Node)
	if err != nil {
		m.t.Fatalf("open %s: %v", path, err)
	}
	return e.Node, handle
}

// check reads a piece of a file and compares it.
func (m *mounted) check(path string, node, handle uint64, offset, size int) {
	m.t.Helper()
	b, err := m.Call(FuseRead, node, ReadPayload(handle, uint64(offset), size), size)
	if err != nil {
		m.t.Errorf("read %s at %d: %v", path, offset, err)
		return
	}
	want := max(0, min(size, fixtureFiles[path]-offset))
	if !bytes.Equal(b, fixtureContents(path, offset, want)) {
		m.t.Errorf("read %d bytes of %s at %d: %d bytes, or others than there are", size, path, offset, len(b))
	}
}

func (m *mounted) read() {
	most := min(m.Options.MaxIO, 4096*(m.Options.QueueSize-4)) // a chain is no longer than its queue
	if m.Ring&FeatureIndirect == 0 {                           // each request's part of the queue
		most = min(most, 4096*(m.Options.QueueSize/m.Options.Depth-4))
	}
	for path, length := range fixtureFiles {
		node, handle := m.open(path)
		for _, size := range []int{1, 100, 4096, 4097, 65536, 1 << 20} {
			for _, offset := range []int{0, 1, 4095, 4096, length - 1, length, length + 100} {
				if size <= most && offset >= 0 {
					m.check(path, node, handle, offset, size)
				}
			}
		}
	}
}

func (d Daemon) negotiation(t *testing.T) {
	f, err := Connect(d.Start(t), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	queues, _, err := f.NegotiateBest(FeatureIndirect | FeatureEventIdx)
	if err != nil || queues < 2 {
		t.Errorf("%d queues: %v", queues, err)
	}
	if f.Protocol&ProtocolReply == 0 || f.Protocol&d.Protocol != d.Protocol {
		t.Errorf("protocol features %#x are offered, want %#x and %#x", f.Protocol, d.Protocol, ProtocolReply)
	}
}

func (m *mounted) lookup() {
	for path, size := range fixtureFiles {
		if e := m.find(m.root, path); e.Size != uint64(size) || e.Mode != syscall.S_IFREG|0o644 && e.Mode != syscall.S_IFREG|0o444 || e.Nlink < 1 {
			m.t.Errorf("%s: %+v", path, e)
		}
	}
	if e := m.find(m.root, "program"); e.Mode&0o777 != 0o755 && e.Mode&0o777 != 0o555 {
		m.t.Errorf("program: %+v", e)
	}
	if e := m.find(m.root, "dir"); e.Mode&syscall.S_IFMT != syscall.S_IFDIR {
		m.t.Errorf("dir: %+v", e)
	}
	link := m.find(m.root, "link")
	if b, err := m.Call(FuseReadlink, link.Node, nil, 4096); err != nil || string(b) != fixtureTarget {
		m.t.Errorf("link to %q: %v", b, err)
	}
	if e, err := m.Lookup(m.root, "none"); err != syscall.ENOENT && (err != nil || e.Node != 0) {
		m.t.Errorf("what is not there: %+v, %v", e, err)
	}
	b, err := m.Call(FuseGetattr, m.root, make([]byte, 16), 104)
	if err != nil || len(b) != 104 || binary.LittleEndian.Uint32(b[16+60:])&syscall.S_IFMT != syscall.S_IFDIR {
		m.t.Errorf("attributes of the root: % x, %v", b, err)
	}
	if b, err := m.Call(FuseStatfs, m.root, nil, 80); err != nil || len(b) != 80 {
		m.t.Errorf("STATFS: %d bytes, %v", len(b), err)
	}
}

func (m *mounted) list() {
	node := m.find(m.root, "many").Node
	want := []string{".", ".."}
	for i := range fixtureMany {
		want = append(want, fmt.Sprintf("%03d", i))
	}
	for _, opcode := range []uint32{FuseReaddir, FuseReaddirplus} {
		for _, size := range []int{512, 4096, 65536} {
			handle, err := m.Open(FuseOpendir, node)
			if err != nil {
				m.t.Fatal(err)
			}
			names, entries, err := m.ReadDir(opcode, node, handle, size)
			if err != nil {
				m.t.Fatal(err)
			}
			for i, name := range names {
				if opcode == FuseReaddirplus && name[0] != '.' && entries[i].Node != m.find(node, name).Node {
					m.t.Errorf("%s: the listing has another inode than LOOKUP", name)
				}
			}
			slices.Sort(names)
			if !slices.Equal(names, want) {
				m.t.Errorf("opcode %d with %d bytes: %d names, want %d", opcode, size, len(names), len(want))
			}
		}
	}
}

func (m *mounted) errors() {
	if _, err := m.Call(4000, m.root, make([]byte, 64), 64); err != syscall.ENOSYS {
		m.t.Errorf("unknown opcode: %v", err)
	}
	const unknown = 1 << 40
	for _, opcode := range []uint32{FuseGetattr, FuseReadlink} {
		var errno syscall.Errno
		if _, err := m.Call(opcode, unknown, make([]byte, 16), 104); !errors.As(err, &errno) {
			m.t.Errorf("opcode %d on an inode that is not there: %v", opcode, err)
		}
	}
	if _, err := m.Call(FuseLookup, m.find(m.root, "small").Node, []byte("x\x00"), 128); err == nil {
		m.t.Error("a file was looked into")
	}
	node, handle := m.open("small")
	m.check("small", node, handle, 0, 4096) // still served
}

// manyInFlight reads pieces of a file with many requests in flight, and holds
// that each gets its own answer.
func (m *mounted) manyInFlight() {
	node, handle := m.open("large")
	r := rand.New(rand.NewPCG(1, 2))
	size := fixtureFiles["large"]
	type piece struct{ offset, size int }
	pieces := make([]piece, len(m.slots))
	for n, inFlight := 0, 0; n < 3000 || inFlight > 0; {
		if n < 3000 && inFlight < len(m.slots) {
			p := piece{r.IntN(size), 1 + r.IntN(20000)}
			slot, err := m.Send(FuseRequest{Opcode: FuseRead, Node: node, Payload: ReadPayload(handle, uint64(p.offset), p.size), Room: p.size})
			if err != nil {
				m.t.Fatal(err)
			}
			pieces[slot] = p
			n, inFlight = n+1, inFlight+1
			continue
		}
		a, err := m.Receive()
		if err != nil || a.Errno != 0 {
			m.t.Fatal(err, a.Errno)
		}
		inFlight--
		p := pieces[a.Slot]
		if !bytes.Equal(a.Payload, fixtureContents("large", p.offset, min(p.size, size-p.offset))) {
			m.t.Errorf("%d bytes at %d: wrong contents", p.size, p.offset)
		}
	}
}

// stopAndStart stops the queue with requests in flight: they are answered before
// it stops, or found when it starts again.
func (m *mounted) stopAndStart(idle bool) {
	node, handle := m.open("large")
	for range 20 {
		for range 10 {
			if _, err := m.Send(FuseRequest{Opcode: FuseRead, Node: node, Payload: ReadPayload(handle, 0, 4096), Room: 4096}); err != nil {
				m.t.Fatal(err)
			}
		}
		for idle && m.Q.Answers() < 10 {
			time.Sleep(time.Millisecond)
		}
		base, err := m.Q.Stop()
		if err != nil {
			m.t.Fatal(err)
		}
		if left := int(uint16(int(m.Q.availIdx) - base)); left > 10 || left+m.Q.Answers() != 10 {
			m.t.Fatalf("stopped at %d of %d with %d answers", base, m.Q.availIdx, m.Q.Answers())
		}
		if err := m.Q.StartAt(base); err != nil {
			m.t.Fatal(err)
		}
		for range 10 {
			if a, err := m.Receive(); err != nil || a.Errno != 0 || !bytes.Equal(a.Payload, fixtureContents("large", 0, 4096)) {
				m.t.Fatal(err, a.Errno)
			}
		}
	}
}

// reboot mounts the share a second time on the same connection, with new rings
// and without another memory table, as QEMU does.
func (m *mounted) reboot() {
	node, handle := m.open("small")
	m.check("small", node, handle, 0, 100)
	if _, err := m.Q.Stop(); err != nil {
		m.t.Fatal(err)
	}
	if m.Protocol&ProtocolReset != 0 {
		if err := m.Do(ResetDevice, nil); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := m.Do(SetFeatures, U64(m.Ring)); err != nil {
		m.t.Fatal(err)
	}
	m.Q.Clear()
	if err := m.Q.Start(); err != nil {
		m.t.Fatal(err)
	}
	if _, err := m.Call(FuseInit, 1, InitPayload(), 64); err != nil {
		m.t.Fatal(err)
	}
	if b, err := m.Call(FuseGetattr, 1, make([]byte, 16), 104); err != nil || len(b) != 104 {
		m.t.Fatal(err)
	}
}

// memoryByRegions hands guest memory over in two regions, that the buffers lie
// across.
func (d Daemon) memoryByRegions(t *testing.T) {
	g, err := NewGuest(d.Start(t), GuestOptions{Depth: 3, Regions: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	m := &mounted{Guest: g, t: t}
	if _, err := g.Call(FuseInit, 1, InitPayload(), 64); err != nil {
		t.Fatal(err)
	}
	m.findRoot(d.Root)
	node, handle := m.open("large")
	for i := range 40 { // all slots in turn
		m.check("large", node, handle, i*1000, 1<<20)
	}
	if s := len(m.Mem) / 2; !slices.ContainsFunc(m.slots, func(l slot) bool { return l.out < uint64(s) && l.out+1<<20 > uint64(s) }) {
		t.Error("no buffer lies across regions") // of the suite
	}
}

// highPriority forgets on queue 0 while queue 1 is in use.
func (m *mounted) highPriority() {
	q, err := m.NewQueue(0, 128, m.Ring)
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(q.Close)
	f := NewFuse(q)
	node, handle := m.open("large")
	for i := range 30 {
		e := m.find(m.root, "many")
		if err := f.Forget(e.Node, 1); err != nil {
			m.t.Fatal(err)
		}
		m.check("large", node, handle, i, 4096)
	}
}

// inFlight replaces the connection while requests are in flight.
func (d Daemon) inFlight(t *testing.T) {
	socket := d.Start(t)
	g, err := NewGuest(socket, GuestOptions{})
	if err != nil {
		t.Fatal(err)
	}
	offered := g.Protocol&ProtocolInflight != 0 && d.Many
	g.Close()
	if !offered {
		return
	}
	m := d.mountAt(t, socket, GuestOptions{Inflight: true})
	r := FuseRequest{Opcode: FuseGetattr, Node: 1, Payload: make([]byte, 16), Room: 104}
	want, err := m.Call(r.Opcode, r.Node, r.Payload, r.Room)
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.Clone(want)
	if d.StableNodes {
		node, handle := m.open("large")
		r = FuseRequest{Opcode: FuseRead, Node: node, Payload: ReadPayload(handle, 0, 1<<20), Room: 1 << 20}
		want = fixtureContents("large", 0, 1<<20)
	}
	for range 20 {
		sent := 0
		for ; m.InFlight() < len(m.slots); sent++ {
			if _, err := m.Send(r); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Resume(socket); err != nil {
			t.Fatal(err)
		}
		for range sent {
			if a, err := m.Receive(); err != nil || a.Errno != 0 || !bytes.Equal(a.Payload, want) {
				t.Fatal(err, a.Errno)
			}
		}
		if n := m.Q.Answers(); n != 0 {
			t.Fatalf("%d answers too many", n)
		}
	}
}

// manyGuests has many guests at once, of which some go without a word.
func (d Daemon) manyGuests(t *testing.T) {
	if !d.Many {
		return
	}
	socket := d.Start(t)
	var guests []*mounted
	for range 32 {
		guests = append(guests, d.mountAt(t, socket, GuestOptions{Depth: 2}))
	}
	for round := range 4 {
		for i, m := range guests {
			if i%8 < round {
				m.Close()
				guests[i] = d.mountAt(t, socket, GuestOptions{Depth: 2})
				m = guests[i]
			}
			node, handle := m.open("large")
			m.check("large", node, handle, i*1000, 100000)
		}
	}
}
