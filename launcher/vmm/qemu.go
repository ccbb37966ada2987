package vmm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"storeboot/internal/bootproto"
)

// QEMU runs guests with qemu-system-ARCH, 7.2 or later.
type QEMU struct {
	Path string

	mu      sync.Mutex
	replies chan qmpReply // of the command under way, nil for none
	begun   chan struct{} // closed when commands may be given
}

// qmpReply is the answer to a command.
type qmpReply struct {
	data json.RawMessage
	err  error
}

// QEMUName is the file name of QEMU for guests of an architecture (as GOARCH).
func QEMUName(arch string) string {
	switch arch {
	case "amd64":
		return "qemu-system-x86_64"
	case "arm64":
		return "qemu-system-aarch64"
	}
	return "qemu-system-" + arch
}

func (q *QEMU) Name() string { return "qemu" }

// BootsAgain is false: -no-reboot is among the arguments.
func (q *QEMU) BootsAgain() bool { return false }

func (q *QEMU) Check(m *Machine) error {
	if err := m.Check(); err != nil {
		return err
	}
	if m.Accel == KVM && m.Arch != runtime.GOARCH {
		return fmt.Errorf("KVM runs no guests of %s on %s (use --accel tcg)", m.Arch, runtime.GOARCH)
	}
	for _, n := range m.Nets {
		if n.Kind == NetPasst && n.Socket == "" {
			return errors.New("a network of passt without its socket")
		}
	}
	for _, c := range []Console{m.Serial, m.Program} {
		if c.Input == "" {
			continue
		}
		if prefix, ok := strings.CutSuffix(c.Input, ".in"); !ok || c.Output != prefix+".out" {
			return fmt.Errorf("console %s, %s: QEMU wants a pair NAME.in, NAME.out", c.Input, c.Output)
		}
	}
	return nil
}

func (q *QEMU) Command(m *Machine) Command {
	a := &qemuArgs{m: m}
	a.add("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot")
	a.machine()
	a.memory()
	a.add("-kernel", m.Kernel)
	if m.Initrd != "" {
		a.add("-initrd", m.Initrd)
	}
	a.add("-append", m.CommandLine)
	a.share("store", m.Store)
	for i, s := range m.Shares {
		a.share("share"+strconv.Itoa(i), s)
	}
	for i, d := range m.Disks {
		id := "disk" + strconv.Itoa(i)
		drive := "if=none,id=" + id + ",format=raw,file=" + value(d.Path)
		if d.ReadOnly {
			drive += ",readonly=on"
		}
		a.add("-drive", drive)
		a.device("virtio-blk", ",drive="+id)
	}
	for i, n := range m.Nets {
		a.net("net"+strconv.Itoa(i), n)
	}
	a.consoles()
	if m.Vsock != nil {
		a.device("vhost-vsock", ",guest-cid="+strconv.FormatUint(uint64(m.Vsock.CID), 10))
	}
	if m.Balloon {
		a.device("virtio-balloon", ",free-page-reporting=on")
	}
	if m.PVPanic && m.Arch == "amd64" {
		a.add("-device", "pvpanic")
	}
	a.socket(SocketMonitor)
	a.add("-mon", "chardev="+string(SocketMonitor)+",mode=control")
	return Command{Path: q.Path, Args: a.args, Sockets: a.sockets}
}

// qemuArgs gathers the arguments of one machine.
type qemuArgs struct {
	m       *Machine
	args    []string
	sockets []Socket
}

func (a *qemuArgs) add(words ...string) { a.args = append(a.args, words...) }

// device adds a virtio device on the machine's bus.
func (a *qemuArgs) device(name, options string) {
	bus := "-pci"
	if a.m.board() == MicroVM {
		bus = "-device"
	}
	a.add("-device", name+bus+options)
}

// machine adds the board and the processors. What no guest of ours uses is left
// out of the boot.
func (a *qemuArgs) machine() {
	board := map[Board]string{
		Q35:     "q35,usb=off,sata=off,smbus=off,vmport=off",
		MicroVM: "microvm,rtc=on,auto-kernel-cmdline=off",
		Virt:    "virt,gic-version=max",
	}[a.m.board()]
	a.add("-machine", board+",memory-backend=mem")
	switch {
	case a.m.Accel == KVM:
		a.add("-accel", "kvm", "-cpu", "host")
	case a.m.Arch == "arm64":
		// The architecture's own algorithm for pointers is slow to translate.
		a.add("-accel", "tcg,thread=multi", "-cpu", "max,pauth-impdef=on")
	default:
		a.add("-accel", "tcg,thread=multi", "-cpu", "max")
	}
	a.add("-smp", strconv.Itoa(a.m.CPUs))
}

// memory adds the guest's memory, which the store daemon reads and writes.
func (a *qemuArgs) memory() {
	m, huge := a.m, ""
	if m.HugePages {
		huge = ",hugetlb=on"
	}
	size := m.Memory.String()
	if m.MaxMemory > 0 {
		size += ",maxmem=" + m.MaxMemory.String()
	}
	a.add("-m", size)
	a.add("-object", "memory-backend-memfd,id=mem,size="+m.Memory.String()+",share=on"+huge)
	if m.MaxMemory > 0 {
		more := (m.MaxMemory - m.Memory).String()
		a.add("-object", "memory-backend-memfd,id=more,size="+more+",share=on,reserve=off"+huge,
			"-device", "virtio-mem-pci,id="+virtioMemID+",memdev=more,requested-size=0")
	}
}

// virtioMemID is QEMU's name of the device, for a change of its size.
const virtioMemID = "more-memory"

func (a *qemuArgs) share(id string, s Store) {
	a.add("-chardev", "socket,id="+id+",path="+value(s.Socket))
	options := ",chardev=" + id + ",tag=" + value(s.Tag) + ",queue-size=" + strconv.Itoa(QueueSize)
	if s.Queues > 1 {
		options += ",num-request-queues=" + strconv.Itoa(s.Queues)
	}
	a.device("vhost-user-fs", options)
}

func (a *qemuArgs) net(id string, n Net) {
	switch n.Kind {
	case NetUser:
		back := "user,id=" + id
		for _, p := range n.Publish {
			back += ",hostfwd=" + p.qemu()
		}
		a.add("-netdev", back)
	case NetTap:
		a.add("-netdev", "tap,id="+id+",ifname="+value(n.Interface)+",script=no,downscript=no")
	case NetPasst:
		a.add("-netdev", "stream,id="+id+",server=off,addr.type=unix,addr.path="+value(n.Socket))
	}
	options := ",netdev=" + id + ",mac=" + n.MAC
	if a.m.board() != MicroVM {
		options += ",romfile=" // nobody boots from it
	}
	a.device("virtio-net", options)
}

// consoles adds the kernel's and the program's, and what shares the device of
// the latter.
func (a *qemuArgs) consoles() {
	m := a.m
	if !m.Serial.Empty() {
		a.add("-chardev", chardev("serial", m.Serial), "-serial", "chardev:serial")
	}
	if !m.Program.Empty() || m.Stdin || m.Control || m.Agent || m.Stdout != "" || m.Stderr != "" {
		a.device("virtio-serial", "")
	}
	if !m.Program.Empty() {
		a.add("-chardev", chardev("program", m.Program), "-device", "virtconsole,chardev=program")
	}
	for _, p := range []struct{ file, name string }{{m.Stdout, bootproto.StdoutPortName}, {m.Stderr, bootproto.StderrPortName}} {
		if p.file != "" {
			a.add("-chardev", "file,id="+p.name+",path="+value(p.file))
			a.port(p.name, p.name)
		}
	}
	for _, p := range []struct {
		want   bool
		socket Socket
		name   string
	}{
		{m.Stdin, SocketStdin, bootproto.StdinPortName},
		{m.Control, SocketControl, bootproto.ControlPortName},
		{m.Agent, SocketAgent, bootproto.AgentPortName},
	} {
		if p.want {
			a.socket(p.socket)
			a.port(string(p.socket), p.name)
		}
	}
}

// socket adds a back end that is a socket of the launcher's.
func (a *qemuArgs) socket(s Socket) {
	a.add("-chardev", "socket,id="+string(s)+",fd="+strconv.Itoa(firstFD+len(a.sockets)))
	a.sockets = append(a.sockets, s)
}

// port adds a virtio-serial port.
func (a *qemuArgs) port(chardev, name string) {
	a.add("-device", "virtserialport,chardev="+chardev+",name="+name)
}

// chardev is the back end of a console. "pipe" opens NAME.in and NAME.out for
// reading and writing, whatever they are: here a FIFO, which thus never ends,
// and a regular file, which takes all that is written at once.
func chardev(id string, c Console) string {
	if prefix, ok := strings.CutSuffix(c.Input, ".in"); ok {
		return "pipe,id=" + id + ",path=" + value(prefix)
	}
	return "file,id=" + id + ",path=" + value(c.Output)
}

// value escapes the commas of an option's value.
func value(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// Monitor speaks QMP (docs/interop/qmp-spec.txt): it leaves the negotiation
// mode, then waits for SHUTDOWN and GUEST_PANICKED.
func (q *QEMU) Monitor(conn io.ReadWriter, ended func(End)) error {
	// A QEMU that has ended already may still have said why.
	_, werr := io.WriteString(conn, `{"execute":"qmp_capabilities"}`+"\n")
	close(q.hasBegun())
	panicked := false
	err := eachJSON(conn, func(data []byte) {
		var e struct {
			Return *json.RawMessage `json:"return"`
			ID     int              `json:"id"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
			Event string `json:"event"`
			Data  struct {
				Reason string `json:"reason"`
			} `json:"data"`
		}
		if json.Unmarshal(data, &e) != nil {
			return // a greeting or an answer of another shape
		}
		switch {
		case e.ID == commandID && e.Error != nil:
			q.reply(qmpReply{err: errors.New(e.Error.Desc)})
		case e.ID == commandID && e.Return != nil:
			q.reply(qmpReply{data: *e.Return})
		case e.Event == "GUEST_PANICKED" || e.Event == "SHUTDOWN" && e.Data.Reason == "guest-panic":
			panicked = true
			ended(EndPanic)
		case e.Event == "SHUTDOWN" && !panicked:
			switch e.Data.Reason {
			case "guest-shutdown":
				ended(EndPowerOff)
			case "guest-reset":
				ended(EndReset)
			case "host-signal", "host-qmp-quit":
				ended(EndStopped)
			}
		}
	})
	if err := errors.Join(werr, err); err != nil {
		return fmt.Errorf("qemu monitor: %w", err)
	}
	return nil
}

// commandID marks the answers that somebody waits for.
const commandID = 1

// hasBegun is closed when Monitor has left the negotiation mode, in which QEMU takes
// no command.
func (q *QEMU) hasBegun() chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.begun == nil {
		q.begun = make(chan struct{})
	}
	return q.begun
}

func (q *QEMU) reply(r qmpReply) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.replies != nil {
		q.replies <- r // it has room for the one answer
		q.replies = nil
	}
}

// command gives QEMU one command, while Monitor reads the answers.
func (q *QEMU) command(conn io.Writer, name string, arguments any) error {
	_, err := q.ask(conn, name, arguments)
	return err
}

// ask is command, with what it returns.
func (q *QEMU) ask(conn io.Writer, name string, arguments any) (json.RawMessage, error) {
	data, err := json.Marshal(map[string]any{"execute": name, "arguments": arguments, "id": commandID})
	if err != nil {
		return nil, err
	}
	select {
	case <-q.hasBegun():
	case <-time.After(replyLimit):
		return nil, errors.New("qemu: its monitor is not listened to")
	}
	replies := make(chan qmpReply, 1)
	q.mu.Lock()
	if q.replies != nil {
		q.mu.Unlock()
		return nil, errors.New("qemu: another command is under way")
	}
	q.replies = replies
	q.mu.Unlock()
	if _, err := conn.Write(append(data, '\n')); err != nil {
		return nil, fmt.Errorf("qemu monitor: %w", err)
	}
	select {
	case r := <-replies:
		if r.err != nil {
			return nil, fmt.Errorf("qemu: %w", r.err)
		}
		return r.data, nil
	case <-time.After(replyLimit):
		q.mu.Lock()
		q.replies = nil
		q.mu.Unlock()
		return nil, fmt.Errorf("qemu does not answer within %v", replyLimit)
	}
}

func (q *QEMU) PowerButton(conn io.Writer, _ *Machine) error {
	return q.command(conn, "system_powerdown", struct{}{})
}

func (q *QEMU) Threads(conn io.Writer) ([]int, error) {
	data, err := q.ask(conn, "query-cpus-fast", struct{}{})
	if err != nil {
		return nil, err
	}
	var list []struct {
		Index  int `json:"cpu-index"`
		Thread int `json:"thread-id"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("qemu: query-cpus-fast: %w", err)
	}
	threads := make([]int, len(list))
	for _, c := range list {
		if c.Index < 0 || c.Index >= len(list) || c.Thread <= 0 {
			return nil, fmt.Errorf("qemu: query-cpus-fast: processor %d of %d, thread %d", c.Index, len(list), c.Thread)
		}
		threads[c.Index] = c.Thread
	}
	return threads, nil
}

func (q *QEMU) Resize(conn io.Writer, m *Machine, memory Size) error {
	if err := checkResize(m, memory); err != nil {
		return err
	}
	if m.MaxMemory > 0 {
		more := max(memory, m.Memory) - m.Memory
		err := q.command(conn, "qom-set", map[string]any{"path": "/machine/peripheral/" + virtioMemID, "property": "requested-size", "value": uint64(more)})
		if err != nil {
			return err
		}
	}
	if !m.Balloon {
		return nil
	}
	return q.command(conn, "balloon", map[string]any{"value": uint64(min(memory, m.Memory))})
}

// eachJSON calls f with each JSON value of r, none of which may have more than
// maxEvent bytes. The end of r is no error.
func eachJSON(r io.Reader, f func([]byte)) error {
	limit := &io.LimitedReader{R: r}
	d := json.NewDecoder(limit)
	for {
		limit.N = maxEvent
		var raw json.RawMessage
		switch err := d.Decode(&raw); {
		case err == nil:
			f(raw)
		case limit.N == 0:
			return fmt.Errorf("an event of more than %d bytes", maxEvent)
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		default:
			return err
		}
	}
}
