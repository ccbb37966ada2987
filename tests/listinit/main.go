// Command listinit is an init for tests: it prints what the kernel unpacked,
// one line a file, and ends the VM.
package main

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "listinit: runs as PID 1 only: it ends the machine")
		os.Exit(2)
	}
	var b strings.Builder
	b.WriteString("\nBEGIN\n")
	var names []string
	_ = filepath.WalkDir("/", func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != "/" {
			names = append(names, path)
		}
		return nil
	})
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(line(name))
	}
	b.WriteString("END\n")
	_, _ = os.Stdout.WriteString(b.String())
	_ = syscall.Reboot(syscall.LINUX_REBOOT_CMD_RESTART)
}

// line is path, mode, owner, links, device, size, and what is in it.
func line(name string) string {
	var st syscall.Stat_t
	if err := syscall.Lstat(name, &st); err != nil {
		return fmt.Sprintf("%q %v\n", name, err)
	}
	rdev, size, content := uint64(0), int64(0), ""
	switch st.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		data, err := os.ReadFile(name)
		if err != nil {
			content = err.Error()
		} else {
			content = fmt.Sprintf("%x", sha256.Sum256(data))[:16]
		}
		size = st.Size
	case syscall.S_IFLNK:
		content, _ = os.Readlink(name)
		size = st.Size
	case syscall.S_IFBLK, syscall.S_IFCHR:
		rdev = st.Rdev
	}
	major := rdev >> 8 & 0xfff
	minor := rdev&0xff | rdev>>12&0xfff00
	return fmt.Sprintf("%q %o %d:%d %d %d,%d %d %q\n", name, st.Mode, st.Uid, st.Gid, st.Nlink, major, minor, size, content)
}
