package vmm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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
	case m.Stdin || m.Control || m.Stdout != "" || m.Stderr != "" || m.Serial.Input != "" || m.Program.Input != "":
		return errors.New("cloud-hypervisor cannot pass on what is typed (use --vmm qemu, or </dev/null)")
	}
	if m.Agent && (m.Vsock == nil || m.Vsock.Socket == "") {
		return errors.New("cloud-hypervisor connects the agent by vsock, and there is none")
	}
	for _, n := range m.Nets {
		if n.Kind == NetUser {
			return errors.New("cloud-hypervisor has no user-space network of its own (use --net passt, --net tap=, or --vmm qemu)")
		}
	}
	if m.Board != "" {
		return fmt.Errorf("cloud-hypervisor has no machine type %s: that is QEMU's (use --vmm qemu)", m.Board)
	}
	texts := []string{m.Store.Socket, m.Serial.Output, m.Program.Output, m.Store.Tag}
	for _, s := range m.Shares {
		texts = append(texts, s.Tag, s.Socket)
	}
	for _, n := range m.Nets {
		texts = append(texts, n.Interface, n.Socket)
	}
	if m.Vsock != nil {
		texts = append(texts, m.Vsock.Socket)
	}
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
		"--cpus", "boot=" + strconv.Itoa(m.CPUs) + chAffinity(m.Pins),
		"--memory", chMemory(m),
		"--serial", output(m.Serial),
		"--console", output(m.Program),
		"--pvpanic",
		"--event-monitor", "fd=" + strconv.Itoa(firstFD),
	}
	if m.Initrd != "" {
		args = append(args, "--initramfs", m.Initrd)
	}
	args = append(args, "--fs", chFS(m.Store)) // one option with several values
	for _, share := range m.Shares {
		args = append(args, chFS(share))
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
	for i, n := range m.Nets {
		if i == 0 {
			args = append(args, "--net")
		}
		args = append(args, chNet(n))
	}
	if m.Vsock != nil {
		args = append(args, "--vsock", "cid="+strconv.FormatUint(uint64(m.Vsock.CID), 10)+",socket="+m.Vsock.Socket)
	}
	if m.Balloon {
		args = append(args, "--balloon", "size=0,deflate_on_oom=on,free_page_reporting=on")
	}
	if m.API != "" {
		args = append(args, "--api-socket", "path="+m.API)
	}
	return Command{Path: h.Path, Args: args, Sockets: []Socket{SocketMonitor}}
}

// chAffinity is the pins as 0@[2,3],1@[4].
func chAffinity(pins [][]int) string {
	var list []string
	for i, cpus := range pins {
		if len(cpus) == 0 {
			continue
		}
		words := make([]string, len(cpus))
		for j, c := range cpus {
			words[j] = strconv.Itoa(c)
		}
		list = append(list, strconv.Itoa(i)+"@["+strings.Join(words, ",")+"]")
	}
	if list == nil {
		return ""
	}
	return ",affinity=[" + strings.Join(list, ",") + "]"
}

// chMemory is shared, since the store daemon reads and writes the guest's
// memory. That excludes mergeable=on.
func chMemory(m *Machine) string {
	s := "size=" + m.Memory.String() + ",shared=on"
	if m.HugePages {
		s += ",hugepages=on"
	}
	if m.MaxMemory > 0 {
		s += ",hotplug_method=virtio-mem,hotplug_size=" + (m.MaxMemory - m.Memory).String()
	}
	return s
}

func chFS(s Store) string {
	return "tag=" + s.Tag + ",socket=" + s.Socket +
		",num_queues=" + strconv.Itoa(s.Queues) + ",queue_size=" + strconv.Itoa(QueueSize)
}

func chNet(n Net) string {
	if n.Kind == NetPasst {
		return "vhost_user=on,socket=" + n.Socket + ",mac=" + n.MAC
	}
	return "tap=" + n.Interface + ",mac=" + n.MAC
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

func (h *CloudHypervisor) PowerButton(_ io.Writer, m *Machine) error {
	return h.put(m, "vm.power-button", nil)
}

// Threads is for nothing: cloud-hypervisor pins them itself.
func (h *CloudHypervisor) Threads(io.Writer) ([]int, error) { return nil, nil }

func (h *CloudHypervisor) Resize(_ io.Writer, m *Machine, memory Size) error {
	if err := checkResize(m, memory); err != nil {
		return err
	}
	body := map[string]any{}
	if m.MaxMemory > 0 {
		body["desired_ram"] = uint64(max(memory, m.Memory))
	}
	if m.Balloon {
		body["desired_balloon"] = uint64(m.Memory - min(memory, m.Memory))
	}
	return h.put(m, "vm.resize", body)
}

// put makes one request of the API (vmm/src/api/openapi/cloud-hypervisor.yaml).
func (h *CloudHypervisor) put(m *Machine, what string, body any) error {
	if m.API == "" {
		return errors.New("cloud-hypervisor runs without its API")
	}
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return err
		}
	}
	client := http.Client{Timeout: replyLimit, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", m.API)
		},
	}}
	req, err := http.NewRequest(http.MethodPut, "http://localhost/api/v1/"+what, bytes.NewReader(data))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("cloud-hypervisor: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 == 2 {
		return nil
	}
	why, _ := io.ReadAll(io.LimitReader(resp.Body, 2000))
	return fmt.Errorf("cloud-hypervisor: %s: %s: %s", what, resp.Status, strings.TrimSpace(string(why)))
}
