// Command guestprog is what the VM tests run in a guest: a static program that
// does one thing, named by its first argument, or boots a system if it is
// called init.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	if filepath.Base(os.Args[0]) == "init" {
		bootSystem()
		return
	}
	if err := do(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "guestprog:", err)
		os.Exit(1)
	}
}

func do(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("nothing to do")
	}
	switch what := args[0]; what {
	case "args": // each argument quoted, one a line
		for _, a := range args[1:] {
			fmt.Printf("%q\n", a)
		}
	case "env": // the environment and the working directory
		for _, e := range os.Environ() {
			fmt.Println(e)
		}
		dir, err := os.Getwd()
		if err != nil {
			return err
		}
		fmt.Println("dir", dir)
	case "stdin": // how much standard input holds
		n, err := io.Copy(io.Discard, os.Stdin)
		if err != nil {
			return err
		}
		fmt.Println("bytes", n)
	case "sum": // the SHA-256 of standard input
		h := sha256.New()
		if _, err := io.Copy(h, os.Stdin); err != nil {
			return err
		}
		fmt.Printf("%x\n", h.Sum(nil))
	case "exit":
		status, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		os.Exit(status)
	case "kill": // itself
		signal, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		if err := syscall.Kill(os.Getpid(), syscall.Signal(signal)); err != nil {
			return err
		}
		time.Sleep(time.Minute)
	case "bytes": // every byte value in turn, this many bytes
		n, err := strconv.Atoi(args[1])
		if err != nil {
			return err
		}
		w := bufio.NewWriter(os.Stdout)
		for i := range n {
			if err := w.WriteByte(byte(i)); err != nil {
				return err
			}
		}
		return w.Flush()
	case "orphans": // leave this many orphans to PID 1, and see them reaped
		return orphans(args[1])
	case "both": // a word to each of standard output and error
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
	case "obey": // say so, then end with status 5 at an interrupt
		c := make(chan os.Signal, 1)
		signal.Notify(c, os.Interrupt)
		fmt.Println("waiting")
		<-c
		os.Exit(5)
	case "stubborn": // ignore what asks for an end
		signal.Ignore(os.Interrupt, syscall.SIGTERM)
		fmt.Println("waiting")
		time.Sleep(time.Hour)
	case "panic": // crash the kernel, once what was said is out of the guest
		fmt.Println("waiting")
		time.Sleep(2 * time.Second)
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0o200)
	case "cat": // a file
		data, err := os.ReadFile(args[1])
		if err != nil {
			return err
		}
		_, err = os.Stdout.Write(data)
		return err
	case "serve": // a word to everyone who connects, at an address of eth0
		return serve(args[1], args[2])
	case "size": // of the terminal, now and after each change
		return sizes()
	case "write": // the store must refuse it
		return os.WriteFile(args[1], []byte("x"), 0o644)
	case "wait": // say so, then wait to be killed
		fmt.Println("waiting")
		time.Sleep(time.Hour)
	default:
		return fmt.Errorf("no such thing to do: %q", what)
	}
	return nil
}

// sizes prints rows and columns of the terminal until they are 0 or a line is
// typed.
func sizes() error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	typed := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(typed)
	}()
	for {
		w, err := unix.IoctlGetWinsize(1, unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		fmt.Printf("size %d %d\n", w.Row, w.Col)
		select {
		case <-changed:
		case <-typed:
			return nil
		}
	}
}

// orphans starts shells of itself that die after their parent has gone.
func orphans(count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if n == 0 {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for range n {
		// A child whose own child outlives it: that one is PID 1's.
		if err := exec.Command(self, "orphans", "0").Start(); err != nil {
			return err
		}
	}
	fmt.Println("left", n)
	return nil
}

// bootSystem is the init of the smallest system there is: it says what it was
// given, and powers off.
func bootSystem() {
	fmt.Println("system: pid", os.Getpid())
	fmt.Printf("system: args %q\n", os.Args[1:])
	for _, dir := range []string{"/", "/nix/store", "/proc", "/sys", "/dev", "/run"} {
		fmt.Println("system: mount", dir, mountOf(dir))
	}
	_, err := os.Stat("/etc/storeboot/boot.json")
	fmt.Println("system: initramfs gone", os.IsNotExist(err))
	fmt.Println("system: root writable", os.WriteFile("/probe", nil, 0o644) == nil)
	syscall.Sync()
	err = syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Println("system: power off:", err)
	time.Sleep(time.Minute)
}

// mountOf is the type of the last mount on dir, and whether it is read-only.
func mountOf(dir string) string {
	data, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err.Error()
	}
	found := "none"
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) > 3 && f[1] == dir {
			found = f[2] + " " + f[3][:2]
		}
	}
	return found
}

// serve gives eth0 the address, if it has none, and says a word to everyone who
// connects to the port.
func serve(address, port string) error {
	if err := setAddress("eth0", address); err != nil {
		return err
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("waiting")
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		_, _ = conn.Write([]byte("served\n"))
		_ = conn.Close()
	}
}

// setAddress is what "ip addr add" and "ip link set up" do (netdevice(7)).
func setAddress(name, address string) error {
	ip, mask, err := net.ParseCIDR(address)
	if err != nil {
		return err
	}
	if i, err := net.InterfaceByName(name); err != nil {
		return err
	} else if have, err := i.Addrs(); err == nil && len(have) > 0 {
		return nil // by DHCP
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, x := range []struct {
		request uint
		value   net.IP
	}{{unix.SIOCSIFADDR, ip.To4()}, {unix.SIOCSIFNETMASK, net.IP(mask.Mask)}} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(x.value); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, x.request, r); err != nil {
			return err
		}
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
}
