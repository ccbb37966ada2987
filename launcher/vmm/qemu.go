package vmm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"storeboot/internal/bootproto"
)

// QEMU runs guests with qemu-system-ARCH, 7.2 or later.
type QEMU struct {
	Path string
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
	args := []string{"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"}
	add := func(a ...string) { args = append(args, a...) }

	// q35 under TCG too: microvm sometimes hangs there while it measures the
	// time stamp counter. What no guest of ours uses is left out of the boot.
	machine := "q35,usb=off,sata=off,smbus=off,vmport=off"
	if m.Arch == "arm64" {
		machine = "virt,gic-version=max"
	}
	add("-machine", machine+",memory-backend=mem")
	if m.Accel == KVM {
		add("-accel", "kvm", "-cpu", "host")
	} else {
		cpu := "max"
		if m.Arch == "arm64" {
			// The architecture's own pointer signatures take much of the time that
			// emulation takes.
			cpu += ",pauth-impdef=on"
		}
		add("-accel", "tcg,thread=multi", "-cpu", cpu)
	}
	add("-smp", strconv.Itoa(m.CPUs), "-m", m.Memory.String())
	// The store daemon reads and writes the guest's memory.
	add("-object", "memory-backend-memfd,id=mem,size="+m.Memory.String()+",share=on")
	add("-kernel", m.Kernel)
	if m.Initrd != "" {
		add("-initrd", m.Initrd)
	}
	add("-append", m.CommandLine)

	add("-chardev", "socket,id=store,path="+value(m.Store.Socket))
	fs := "vhost-user-fs-pci,chardev=store,tag=" + value(m.Store.Tag) + ",queue-size=" + strconv.Itoa(QueueSize)
	if m.Store.Queues > 1 {
		fs += ",num-request-queues=" + strconv.Itoa(m.Store.Queues)
	}
	add("-device", fs)

	for i, d := range m.Disks {
		id := "disk" + strconv.Itoa(i)
		drive := "if=none,id=" + id + ",format=raw,file=" + value(d.Path)
		if d.ReadOnly {
			drive += ",readonly=on"
		}
		add("-drive", drive, "-device", "virtio-blk-pci,drive="+id)
	}

	if !m.Serial.Empty() {
		add("-chardev", chardev("serial", m.Serial), "-serial", "chardev:serial")
	}
	if !m.Program.Empty() {
		add("-chardev", chardev("program", m.Program),
			"-device", "virtio-serial-pci", "-device", "virtconsole,chardev=program")
	}
	if m.Stdin {
		add("-chardev", "socket,id=stdin,fd="+stdinFD,
			"-device", "virtserialport,chardev=stdin,name="+bootproto.StdinPortName)
	}
	add("-chardev", "socket,id=monitor,fd="+monitorFD, "-mon", "chardev=monitor,mode=control")
	return Command{Path: q.Path, Args: args, Monitor: true, Stdin: m.Stdin}
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
	panicked := false
	err := eachJSON(conn, func(data []byte) {
		var e struct {
			Event string `json:"event"`
			Data  struct {
				Reason string `json:"reason"`
			} `json:"data"`
		}
		if json.Unmarshal(data, &e) != nil {
			return // a greeting or an answer of another shape
		}
		switch {
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
