// Command guestprog is what the VM tests run in a guest: a static program that
// does one thing, named by its first argument, or boots a system if it is
// called init.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
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
