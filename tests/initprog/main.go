// Command initprog is what the VM tests of init run in a guest, beside
// guestprog: what is about PID 1 itself.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if filepath.Base(os.Args[0]) == "init" {
		kernelLog()
		return
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "initprog:", err)
		os.Exit(1)
	}
}

func do(args []string) error {
	switch args[0] {
	case "id": // whom it runs as
		groups, err := syscall.Getgroups()
		if err != nil {
			return err
		}
		fmt.Println(syscall.Getuid(), syscall.Getgid(), groups)
	case "orphans": // leave this many to PID 1, and wait until all are reaped
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		return orphans(n)
	case "stop": // tell PID 1 to end
		signal, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := syscall.Kill(1, syscall.Signal(signal)); err != nil {
			return err
		}
		time.Sleep(time.Hour)
	case "network": // what it is, and what the peer at the address says
		return network(args[1])
	case "memory": // what the kernel says of it, in KiB
		data, err := os.ReadFile("/proc/meminfo")
		if err != nil {
			return err
		}
		status, err := os.ReadFile("/proc/1/status")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(data) + string(status)) {
			for _, name := range []string{"MemTotal", "MemAvailable", "VmRSS", "Threads"} {
				if strings.HasPrefix(line, name+":") {
					fmt.Print(line)
				}
			}
		}
	default:
		return fmt.Errorf("no such thing to do: %q", args[0])
	}
	return nil
}

// network prints the name servers and what else came with the address, talks to
// itself, and prints what the peer says.
func network(peer string) error {
	for _, name := range []string{"/etc/resolv.conf", "/run/net-eth0.conf", "/proc/sys/kernel/hostname"} {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		fmt.Print(string(text))
	}
	self, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	for _, address := range []string{self.Addr().String(), peer} {
		c, err := net.DialTimeout("tcp", address, 20*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		if address == peer {
			text, err := io.ReadAll(c)
			if err != nil {
				return err
			}
			fmt.Printf("peer: %s\n", text)
		}
	}
	return nil
}

// kernelLog is the init of a system that prints the kernel's log, and powers
// off: what is printed while it happens takes time itself.
func kernelLog() {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		fmt.Println(err)
	}
	buf := make([]byte, 8192)
	for {
		n, err := syscall.Read(int(f.Fd()), buf)
		if err != nil {
			break
		}
		// "6,339,5140900,-;text": priority, number, microseconds, flags.
		head, text, _ := strings.Cut(string(buf[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		if fields := strings.Split(head, ","); len(fields) > 2 {
			fmt.Printf("kmsg %s %s\n", fields[2], text)
		}
	}
	fmt.Print("memory ")
	if err := do([]string{"memory"}); err != nil {
		fmt.Println(err)
	}
	syscall.Sync()
	fmt.Println(syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF))
	time.Sleep(time.Minute)
}

// orphans makes processes whose parent ends before them, without executing
// anything: a child that forks n times and exits leaves n to PID 1. It waits
// until none is left in /proc.
func orphans(n int) error {
	for left := n; left > 0; {
		batch := min(left, 200)
		left -= batch
		pid, err := fork()
		if err != nil {
			return err
		}
		if pid == 0 {
			for range batch {
				if child, err := fork(); err == nil && child == 0 {
					syscall.RawSyscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
					exit()
				}
			}
			exit()
		}
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil {
			return err
		}
	}
	for range 500 {
		zombies, err := count()
		if err != nil {
			return err
		}
		if zombies == 0 {
			fmt.Println("reaped", n)
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("PID 1 leaves zombies")
}

// fork is fork(2); a child of a Go program may do no more than system calls.
func fork() (int, error) {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(pid), nil
}

func exit() { syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0) }

// count is how many zombies there are.
func count() (int, error) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	zombies := 0
	for _, d := range dirs {
		stat, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		if err != nil {
			continue
		}
		if i := strings.LastIndex(string(stat), ") Z"); i >= 0 {
			zombies++
		}
	}
	return zombies, nil
}
