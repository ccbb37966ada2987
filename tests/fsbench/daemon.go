package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// daemon is a program that serves the tree.
type daemon struct {
	name    string
	program string
	version string
	root    string // the name of the tree in the root directory, "" if it is that
	args    func(socket string) []string
}

// qemuPlaces and rustPlaces are where distributions put the daemons; a name
// without a slash is looked for in $PATH.
var (
	qemuPlaces = []string{"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"}
	rustPlaces = []string{"virtiofsd", "virtiofsd-rust", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"}
)

// findDaemons are those that are asked for and there. path is the store path of
// the tree.
func (o options) findDaemons(path string) ([]*daemon, error) {
	tree := filepath.Join(o.dir, "tree")
	all := []*daemon{
		{name: "ours", program: filepath.Join(o.dir, "virtiofsd"), root: filepath.Base(path), args: func(socket string) []string {
			return []string{"serve", "--store", filepath.Join(o.dir, "store"), "--socket-path", socket, "--log-level", "error"}
		}},
		{name: "QEMU", program: find(qemuPlaces, "-o source="), args: func(socket string) []string {
			return []string{"-f", "--socket-path=" + socket, "-o", "source=" + tree, "-o", "sandbox=chroot", "-o", "cache=always", "-o", "log_level=err"}
		}},
		{name: "Rust", program: find(rustPlaces, "--shared-dir"), args: func(socket string) []string {
			sandbox := "none"
			if os.Getuid() == 0 {
				sandbox = "chroot"
			}
			args := []string{"--socket-path", socket, "--shared-dir", tree, "--sandbox", sandbox, "--cache", "always", "--readonly", "--log-level", "error"}
			if files := walkDirs * walkFiles; os.Getuid() == 0 && mostDescriptors() < uint64(files) {
				args = append(args, "--inode-file-handles=prefer") // it would not get through the walk else
			}
			return args
		}},
	}
	var there []*daemon
	for _, d := range all {
		switch {
		case !strings.Contains(","+o.daemons+",", ","+d.name+","):
			continue
		case d.program == "":
			fmt.Fprintf(os.Stderr, "fsbench: SKIP: %s's virtiofsd is not there\n", d.name)
			continue
		case d.name == "QEMU" && os.Getuid() != 0:
			fmt.Fprintln(os.Stderr, "fsbench: SKIP: QEMU's virtiofsd needs root")
			continue
		}
		if out, err := exec.Command(d.program, "--version").Output(); err == nil {
			d.version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
		}
		there = append(there, d)
	}
	if len(there) == 0 {
		return nil, fmt.Errorf("-daemons %s: there is none of them", o.daemons)
	}
	return there, nil
}

// mostDescriptors is how many files a daemon may have open. The peers hold one
// for each file that the guest knows.
func mostDescriptors() uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0
	}
	return limit.Max
}

// find is the first of the places with a program whose help has word, by which
// programs of the same name are told apart.
func find(places []string, word string) string {
	for _, place := range places {
		program, err := exec.LookPath(place)
		if err != nil {
			continue
		}
		out, _ := exec.Command(program, "--help").CombinedOutput()
		if strings.Contains(string(out), word) {
			return program
		}
	}
	return ""
}

// served is a daemon that runs, and the guest that it serves.
type served struct {
	guest *vt.Guest
	root  uint64        // the tree's inode
	ready time.Duration // from the start of the process to the answer to FUSE_INIT

	cmd    *exec.Cmd
	dir    string
	stderr strings.Builder
}

// startLimit is how long a daemon may take to serve.
const startLimit = time.Minute

// start starts the daemon, and mounts the tree as the guest of its first VMM: the
// peers serve one.
func (d *daemon) start(ctx context.Context) (s *served, err error) {
	s = &served{}
	if s.dir, err = os.MkdirTemp("", "fsbench-"); err != nil {
		return nil, err
	}
	socket := filepath.Join(s.dir, "s")
	s.cmd = exec.CommandContext(ctx, d.program, d.args(socket)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	s.cmd.Stderr = &s.stderr
	s.cmd.WaitDelay = time.Second
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	for {
		// 32 requests in flight, and READs of 1 MiB.
		if s.guest, err = vt.Mount(socket, vt.GuestOptions{Depth: 32}); err == nil {
			s.ready = time.Since(begin)
			break
		}
		if time.Since(begin) > startLimit || unix.Kill(s.cmd.Process.Pid, 0) != nil || ctx.Err() != nil {
			s.stop()
			return nil, fmt.Errorf("%q does not serve: %w\n%s", s.cmd.Args, err, &s.stderr)
		}
		time.Sleep(200 * time.Microsecond)
	}
	s.root = 1
	if d.root != "" {
		e, err := s.guest.Find(1, d.root)
		if err != nil {
			s.stop()
			return nil, err
		}
		s.root = e.Node
	}
	return s, nil
}

func (s *served) stop() {
	if s.guest != nil {
		s.guest.Close()
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed
	_ = os.RemoveAll(s.dir)
}

// cpu is the processor time that the daemon has taken.
func (s *served) cpu() (time.Duration, error) {
	// The clock of another process (Linux, include/linux/posix-timers.h).
	const scheduled = 2
	clock := ^int32(s.cmd.Process.Pid)<<3 | scheduled
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("processor time of the daemon: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// memory is the daemon's resident memory in bytes, without the guest's.
func (s *served) memory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for line := range strings.Lines(string(b)) {
		var n int64
		name, value, _ := strings.Cut(line, ":")
		if name == "RssAnon" || name == "RssFile" {
			if _, err := fmt.Sscan(value, &n); err != nil {
				return 0, fmt.Errorf("%q: %w", line, err)
			}
			total += n << 10
		}
	}
	return total, nil
}
