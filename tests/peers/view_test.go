//go:build peers

package peers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mounted mounts the store of a daemon until the test ends.
func mounted(t *testing.T, program, address string, flags ...string) string {
	t.Helper()
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skip("SKIP: mounting needs root and /dev/fuse")
	}
	dir := t.TempDir()
	cmd := command(t, one(address), program, append(append([]string{"--otlp=false", "mount"}, flags...), dir)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		_ = unix.Unmount(dir, unix.MNT_DETACH)
	})
	var parent, own unix.Stat_t
	if err := unix.Stat(filepath.Dir(dir), &parent); err != nil {
		t.Fatal(err)
	}
	for range 300 {
		if err := unix.Stat(dir, &own); err == nil && own.Dev != parent.Dev {
			return dir
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s does not mount", program)
	return ""
}

// view is what programs see of a tree: a line for each path.
func view(t *testing.T, dir string) map[string]string {
	t.Helper()
	seen := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		s := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("uid %d mtime %d", s.Uid, info.ModTime().Unix())
		// Theirs has the mode 0444 for symlinks, which nobody looks at, and
		// another size for directories.
		switch {
		case info.Mode().IsRegular():
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" mode %v size %d %x", info.Mode(), info.Size(), b[:min(len(b), 64)])
		case info.Mode().Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d -> %s", info.Size(), target)
		default:
			line += fmt.Sprintf(" mode %v", info.Mode())
		}
		for _, kind := range []string{"directory", "blob"} {
			b := make([]byte, 200)
			for _, project := range []string{"snix", "tvix"} {
				name := "user." + project + ".castore." + kind + ".digest"
				if n, err := unix.Lgetxattr(path, name, b); err == nil {
					line += " " + name + "=" + string(b[:n])
				}
			}
		}
		name, err := filepath.Rel(dir, path)
		seen[name] = line
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return seen
}

// TestSameView mounts one store with both and holds that programs see the same,
// extended attributes included; and that who may not list the root may not with
// both.
func TestSameView(t *testing.T) {
	forEachPeer(t, func(t *testing.T, peer string) {
		address, _ := daemon(t, one("memory://"), ours(t, "virtiofsd"))
		tree := sampleTree(t, "tree")
		path := strings.TrimSpace(run(t, one(address), "", peer, "--otlp=false", "import", tree))
		link := filepath.Join(t.TempDir(), filepath.Base(peer))
		if err := os.Symlink(ours(t, "virtiofsd"), link); err != nil {
			t.Fatal(err)
		}
		base := filepath.Base(path)
		theirs, mine := mounted(t, peer, address), mounted(t, link, address)
		want, got := view(t, filepath.Join(theirs, base)), view(t, filepath.Join(mine, base))
		for name, line := range want {
			// Theirs has one inode for equal contents, executable or not.
			if name == "bin/tool" || name == "bin/same-but-plain" {
				continue
			}
			if got[name] != line {
				t.Errorf("%q\n ours   %s\n theirs %s", name, got[name], line)
			}
		}
		if len(got) != len(want) || len(want) < 300 {
			t.Errorf("%d paths, theirs has %d", len(got), len(want))
		}
		for _, dir := range []string{theirs, mine} {
			if names, err := os.ReadDir(dir); !errors.Is(err, fs.ErrPermission) {
				t.Errorf("%s is listed without --list-root: %v, %v", dir, names, err)
			}
		}
		for _, program := range []string{peer, link} {
			names, err := os.ReadDir(mounted(t, program, address, "-l"))
			if err != nil || len(names) != 1 || names[0].Name() != base {
				t.Errorf("%s: the root lists %v, %v", program, names, err)
			}
		}
	})
}
