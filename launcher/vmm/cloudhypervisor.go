package vmm

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// CloudHypervisor runs guests with cloud-hypervisor, v39 or later, which needs
// KVM.
type CloudHypervisor struct {
	Path string
}

func (h *CloudHypervisor) Name() string { return "cloud-hypervisor" }

// BootsAgain is true: there is no option against it.
func (h *CloudHypervisor) BootsAgain() bool { return true }

// Check adds cloud-hypervisor's rules: KVM only, no input from a FIFO, and no
// comma in a path, which its options cannot carry.
func (h *CloudHypervisor) Check(m *Machine) error {
	if err := m.Check(); err != nil {
		return err
	}
	switch {
	case m.Accel != KVM:
		return fmt.Errorf("cloud-hypervisor has no accelerator %s: it needs KVM (use --vmm qemu)", m.Accel)
	case m.Stdin || m.Serial.Input != "" || m.Program.Input != "":
		return errors.New("cloud-hypervisor cannot pass on what is typed (use --vmm qemu, or </dev/null)")
	}
	texts := []string{m.Store.Socket, m.Serial.Output, m.Program.Output, m.Store.Tag}
	for _, d := range m.Disks {
		texts = append(texts, d.Path)
	}
	for _, p := range texts {
		if strings.ContainsAny(p, ",[]\"") {
			return fmt.Errorf("%q has a character that cloud-hypervisor's options cannot carry", p)
		}
	}
	return nil
}

func (h *CloudHypervisor) Command(m *Machine) Command {
	args := []string{
		"--kernel", m.Kernel,
		"--cmdline", m.CommandLine,
		"--cpus", "boot=" + strconv.Itoa(m.CPUs),
		// Shared, since the store daemon reads and writes the guest's memory.
		// That excludes mergeable=on.
		"--memory", "size=" + m.Memory.String() + ",shared=on",
		"--fs", "tag=" + m.Store.Tag + ",socket=" + m.Store.Socket +
			",num_queues=" + strconv.Itoa(m.Store.Queues) + ",queue_size=" + strconv.Itoa(QueueSize),
		"--serial", output(m.Serial),
		"--console", output(m.Program),
		"--pvpanic",
		"--event-monitor", "fd=" + monitorFD,
	}
	if m.Initrd != "" {
		args = append(args, "--initramfs", m.Initrd)
	}
	for i, d := range m.Disks {
		if i == 0 {
			args = append(args, "--disk")
		}
		disk := "path=" + d.Path
		if d.ReadOnly {
			disk += ",readonly=on"
		}
		args = append(args, disk)
	}
	return Command{Path: h.Path, Args: args, Monitor: true}
}

func output(c Console) string {
	if c.Empty() {
		return "off"
	}
	return "file=" + c.Output
}

// Monitor reads the event monitor's JSON objects. A reset is not the end of
// the process: cloud-hypervisor would boot the guest again, hence ended is
// called when that begins.
func (h *CloudHypervisor) Monitor(conn io.ReadWriter, ended func(End)) error {
	panicked := false
	err := eachJSON(conn, func(data []byte) {
		var e struct {
			Source string `json:"source"`
			Event  string `json:"event"`
		}
		if json.Unmarshal(data, &e) != nil {
			return
		}
		switch e.Source + "/" + e.Event {
		case "guest/panic":
			panicked = true
			ended(EndPanic)
		case "vm/rebooting":
			if !panicked {
				ended(EndReset)
			}
		case "vm/shutdown":
			if !panicked {
				ended(EndPowerOff)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("cloud-hypervisor events: %w", err)
	}
	return nil
}
