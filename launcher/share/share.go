// Package share serves directories of the host to guests, with a virtiofsd that
// others wrote: Rust's (gitlab.com/virtio-fs/virtiofsd), or QEMU's in C, which
// QEMU had up to version 7.2. Ours serves stores only.
package share

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/vmm"
)

// Share is a directory of the host in the guest.
type Share struct {
	Tag      string // of the virtio-fs device
	Path     string // on the host, absolute
	Mount    string // in the guest
	Writable bool
}

// Parse reads TAG=PATH[,rw][,at=DIR]. The directory has to be there.
func Parse(s string) (Share, error) {
	tag, rest, ok := strings.Cut(s, "=")
	if !ok || tag == "" || rest == "" {
		return Share{}, fmt.Errorf("%q: want TAG=PATH[,rw][,at=DIR]", s)
	}
	if len(tag) > bootproto.MaxTag {
		return Share{}, fmt.Errorf("tag %q has %d bytes, %d are possible", tag, len(tag), bootproto.MaxTag)
	}
	if strings.ContainsAny(tag, "/,\x00") || tag == "." || tag == ".." {
		return Share{}, fmt.Errorf("tag %q: want a plain name", tag)
	}
	words := strings.Split(rest, ",")
	out := Share{Tag: tag, Mount: "/mnt/" + tag}
	for _, w := range words[1:] {
		at, isAt := strings.CutPrefix(w, "at=")
		switch {
		case w == "rw":
			out.Writable = true
		case w == "ro":
			out.Writable = false
		case isAt && path.IsAbs(at) && path.Clean(at) != "/":
			out.Mount = path.Clean(at)
		default:
			return Share{}, fmt.Errorf("%q: want rw, ro, or at= and a directory of the guest", w)
		}
	}
	var err error
	if out.Path, err = filepath.Abs(words[0]); err != nil {
		return Share{}, err
	}
	st, err := os.Stat(out.Path)
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory", out.Path)
	}
	return out, err
}

// BootMount is the mount that init makes.
func (s Share) BootMount() bootproto.Mount {
	m := bootproto.Mount{Source: s.Tag, Target: s.Mount, Type: "virtiofs", Options: "ro"}
	if s.Writable {
		m.Options = "rw"
	}
	return m
}

// Daemon is a virtiofsd.
type Daemon struct {
	Path string
	// Old is QEMU's, in C: it needs root, and has no option for read-only.
	Old bool
}

// places are where distributions have theirs: Debian 13, Fedora and Arch; then
// Debian 12.
var places = []string{"/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"}

// FindDaemon finds a virtiofsd: the file that is named, or that of a
// distribution, or one in $PATH that is not ours.
func FindDaemon(ctx context.Context, file string) (Daemon, error) {
	list := places
	if path, err := exec.LookPath("virtiofsd"); err == nil {
		list = append(list[:len(list):len(list)], path)
	}
	if file != "" {
		list = []string{file}
	}
	why := ""
	for _, path := range list {
		if _, err := os.Stat(path); err != nil {
			why = err.Error()
			continue
		}
		d, err := identify(ctx, path)
		if err == nil && (!d.Old || os.Geteuid() == 0) {
			return d, nil
		}
		why = path + " needs root"
		if err != nil {
			why = err.Error()
		}
	}
	if file != "" {
		return Daemon{}, fmt.Errorf("--share-daemon: %s", why)
	}
	return Daemon{}, fmt.Errorf("no virtiofsd for --share: %s; install one (apt-get install virtiofsd, on Debian 12 qemu-system-common), or name it with --share-daemon", why)
}

// identify asks a virtiofsd which one it is: Rust's says "virtiofsd 1.13.2",
// QEMU's "virtiofsd version 7.2.22" and its FUSE version.
func identify(ctx context.Context, path string) (Daemon, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return Daemon{}, fmt.Errorf("%s --version: %w", path, err)
	}
	name, version, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	switch {
	case strings.Contains(version, "using FUSE"):
		return Daemon{Path: path, Old: true}, nil
	case name == "virtiofsd" && version != "" && version[0] >= '1' && version[0] <= '9':
		return Daemon{Path: path}, nil
	}
	return Daemon{}, fmt.Errorf("%s is no virtiofsd that serves directories", path)
}

// Command serves s at the socket. self is this program, which has the subcommand
// [ReadOnlyCommand].
func (d Daemon) Command(s Share, socket, self string) vmm.Command {
	if !d.Old {
		args := []string{"--socket-path", socket, "--shared-dir", s.Path, "--cache", "auto"}
		if !s.Writable {
			args = append(args, "--readonly")
		}
		if os.Geteuid() != 0 {
			args = append(args, "--sandbox", "none") // the user's own rights are all it has
		}
		return vmm.Command{Path: d.Path, Args: args}
	}
	args := []string{"--socket-path=" + socket, "-f", "-o", "source=" + s.Path + ",cache=auto,log_level=warn"}
	if s.Writable {
		return vmm.Command{Path: d.Path, Args: args}
	}
	return vmm.Command{Path: self, Args: append([]string{ReadOnlyCommand, s.Path, d.Path}, args...)}
}

// Check says whether the daemon can serve the path.
func (d Daemon) Check(s Share) error {
	if d.Old && strings.Contains(s.Path, ",") {
		return errors.New("QEMU's virtiofsd cannot serve a path with a comma: " + s.Path)
	}
	return nil
}
