package vmm

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// probeFirmware is the end of a ROM that enters long mode and then ends QEMU
// with the status probeStatus; firmware/probe.asm is its source.
//
//go:embed firmware/probe.bin
var probeFirmware []byte

const (
	probeROM    = 64 << 10 // bytes, the least that QEMU maps as firmware
	probeStatus = 91
	// probeLimit is how long the trial may take. It takes 0.05 s where KVM
	// works, several seconds on a host that is itself an emulated guest; where a
	// guest hangs nothing ever comes.
	probeLimit = 12 * time.Second
	// patientLimit is for whoever asks for KVM, and would rather wait.
	patientLimit = 90 * time.Second
)

// Probe is the answer to whether KVM can be used.
type Probe struct {
	Usable bool   `json:"usable"`
	Why    string `json:"why,omitempty"` // it cannot, in one line
	// Waited is how long a trial was waited for that came to no end.
	Waited time.Duration `json:"waited_ns,omitempty"`
}

// ProbeKVM finds out by a trial whether q can boot a guest with KVM: that
// /dev/kvm is there says little, some boot only guests made for them. The
// answer is kept in the directory cache (empty: nowhere) for this boot of the
// machine and this QEMU, since a failing trial can take some seconds. With patient
// it may take longer, and a trial that was given up before is made again.
func ProbeKVM(ctx context.Context, q *QEMU, cache string, patient bool) Probe {
	// What changes without a reboot is asked each time.
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR|syscall.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Probe{Why: "there is no /dev/kvm"}
	case errors.Is(err, fs.ErrPermission):
		return Probe{Why: "no permission to open /dev/kvm (join the group kvm)"}
	case err != nil:
		return Probe{Why: err.Error()}
	}
	_ = f.Close()
	limit := probeLimit
	if patient {
		limit = patientLimit
	}
	key := probeKey(q.Path)
	file := filepath.Join(cache, "kvm-probe.json")
	if cache != "" && key != "" {
		if p, ok := readProbe(file, key); ok && (p.Usable || p.Waited == 0 || p.Waited >= limit) {
			return p
		}
	}
	p := try(ctx, q.Path, "kvm", "host", limit)
	if cache != "" && key != "" && ctx.Err() == nil {
		writeProbe(file, key, p)
	}
	return p
}

// try boots the trial firmware. Its parameters let a test try the firmware
// itself.
func try(ctx context.Context, qemu, accel, cpu string, limit time.Duration) Probe {
	rom, err := probeImage()
	if err != nil {
		return Probe{Why: err.Error()}
	}
	defer rom.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c := exec.CommandContext(ctx, qemu, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "q35", "-accel", accel, "-cpu", cpu, "-m", "16",
		"-bios", "/proc/self/fd/3", "-device", "isa-debug-exit,iobase=0xf4,iosize=1")
	var errOut strings.Builder
	c.Stderr = &errOut
	c.ExtraFiles = []*os.File{rom}
	// The signal is tied to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c.WaitDelay = time.Second
	err = c.Run()
	var exit *exec.ExitError
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return Probe{Why: fmt.Sprintf("a trial guest did nothing for %v", limit), Waited: limit}
	case errors.As(err, &exit) && exit.ExitCode() == probeStatus:
		return Probe{Usable: true}
	case err == nil:
		return Probe{Why: "a trial guest ended early"}
	}
	line, _, _ := strings.Cut(strings.TrimSpace(errOut.String()), "\n")
	if line == "" {
		line = err.Error()
	}
	return Probe{Why: "a trial guest does not run: " + line}
}

// probeImage is the trial's ROM in a file without a name, so that nothing can be
// left of it.
func probeImage() (*os.File, error) {
	fd, err := unix.MemfdCreate("storeboot-probe", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "probe firmware")
	_, err = f.WriteAt(probeFirmware, int64(probeROM-len(probeFirmware)))
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// probeKey names this boot of the machine and this build of the monitor; "" if
// the machine does not say.
func probeKey(path string) string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	st, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s %s %d %d", strings.TrimSpace(string(boot)), path, st.Size(), st.ModTime().UnixNano())
}

type cachedProbe struct {
	Key string `json:"key"`
	Probe
}

func readProbe(file, key string) (Probe, bool) {
	data, err := os.ReadFile(file)
	var c cachedProbe
	if err != nil || json.Unmarshal(data, &c) != nil || c.Key != key {
		return Probe{}, false
	}
	return c.Probe, true
}

// writeProbe keeps p; where that is not possible the next trial is due sooner.
func writeProbe(file, key string, p Probe) {
	data, err := json.Marshal(cachedProbe{key, p})
	if err != nil || os.MkdirAll(filepath.Dir(file), 0o700) != nil {
		return
	}
	f, err := os.CreateTemp(filepath.Dir(file), "kvm-probe-")
	if err != nil {
		return
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Close()); err != nil || os.Rename(f.Name(), file) != nil {
		_ = os.Remove(f.Name())
	}
}
