package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"storeboot/internal/newc"
	"storeboot/templates"
)

// contents adds what the template lists.
func (b *Builder) contents(t *tree) error {
	for _, d := range b.Template.Directories {
		if err := t.directory(d.Path, d.Mode, Reason{Why: "directory", At: d.At.String()}); err != nil {
			return d.At.Wrap(err)
		}
		t.own(d.Path, d.Owner.UID, d.Owner.GID)
	}
	for _, x := range b.Template.Trees {
		if err := addTree(t, x); err != nil {
			return x.At.Wrap(err)
		}
	}
	for _, f := range b.Template.Files {
		if err := addFile(t, f); err != nil {
			return f.At.Wrap(err)
		}
		t.own(f.Path, f.Owner.UID, f.Owner.GID)
	}
	for _, l := range b.Template.Symlinks {
		if err := t.symlink(l.Path, l.Target, Reason{Why: "symlink", At: l.At.String()}); err != nil {
			return l.At.Wrap(err)
		}
		t.own(l.Path, l.Owner.UID, l.Owner.GID)
	}
	types := map[string]uint32{"char": newc.TypeChar, "block": newc.TypeBlock, "fifo": newc.TypeFIFO}
	for _, d := range b.Template.Devices {
		if err := t.device(d.Path, types[d.Type]|d.Mode, d.Major, d.Minor, Reason{Why: "device", At: d.At.String()}); err != nil {
			return d.At.Wrap(err)
		}
		t.own(d.Path, d.Owner.UID, d.Owner.GID)
	}
	return nil
}

// defaults adds what is in every image whose template has not its own.
func (b *Builder) defaults(t *tree) error {
	for _, a := range accounts {
		if t.entries[a.name] == nil {
			if err := t.data(a.name, 0o644, []byte(a.text), everyImage); err != nil {
				return err
			}
		}
	}
	for _, m := range b.Template.Mounts {
		if t.find(m.Target) == nil {
			if err := t.directory(m.Target, 0o755, Reason{Why: "mount", At: m.At.String()}); err != nil {
				return m.At.Wrap(err)
			}
		}
	}
	return nil
}

func addFile(t *tree, f templates.File) error {
	if f.Text != nil {
		perm := uint32(0o644)
		if f.Mode != nil {
			perm = *f.Mode
		}
		return t.data(f.Path, perm, []byte(*f.Text), Reason{Why: "text", At: f.At.String()})
	}
	st, err := os.Stat(f.Source)
	if err != nil {
		return err
	}
	perm := permissions(st)
	if f.Mode != nil {
		perm = *f.Mode
	}
	return t.file(f.Path, perm, f.Source, Reason{Why: "file " + f.Source, At: f.At.String()})
}

// permissions are one of the two usual ones, since the umask of whoever made
// the file must not show, and the bits that no umask sets: setuid and setgid of
// a file; that of a directory comes from the one above it. A sticky directory
// is open to all: that is what the bit is for.
func permissions(st fs.FileInfo) uint32 {
	switch {
	case st.IsDir() && st.Mode()&fs.ModeSticky != 0:
		return 0o1777
	case st.IsDir():
		return 0o755
	case st.Mode()&0o100 != 0:
		return 0o755 | allPermissions(st)&0o6000
	}
	return 0o644
}

// allPermissions are the 12 bits of the file's mode.
func allPermissions(st fs.FileInfo) uint32 {
	perm := uint32(st.Mode().Perm())
	for _, b := range []struct {
		mode fs.FileMode
		bit  uint32
	}{{fs.ModeSetuid, 0o4000}, {fs.ModeSetgid, 0o2000}, {fs.ModeSticky, 0o1000}} {
		if st.Mode()&b.mode != 0 {
			perm |= b.bit
		}
	}
	return perm
}

// addTree adds a directory with all that is below it. What has several names
// keeps them.
func addTree(t *tree, x templates.Tree) error {
	st, err := os.Stat(x.Source)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("tree %s: not a directory", x.Source)
	}
	why := Reason{Why: "tree " + x.Source, At: x.At.String()}
	return filepath.WalkDir(x.Source, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(x.Source, file)
		if err != nil {
			return err
		}
		place := path.Join(x.Path, filepath.ToSlash(rel))
		if place == "/" {
			return nil // the kernel has made it
		}
		why.Origin = file
		if err := addNode(t, place, file, x.KeepModes, why); err != nil {
			return err
		}
		t.own(place, x.Owner.UID, x.Owner.GID)
		return nil
	})
}

// addNode adds one node of a tree as what it is.
func addNode(t *tree, place, file string, keepModes bool, why Reason) error {
	st, err := os.Lstat(file)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return errors.New("not a Unix file system")
	}
	perm := permissions(st)
	if keepModes {
		perm = allPermissions(st)
	}
	switch mode := st.Mode(); {
	case mode.IsDir():
		if old := t.entries[place]; old != nil && old.IsDir() && !keepModes {
			return nil // with the mode that it has
		}
		return t.directory(place, perm, why)
	case mode.IsRegular():
		if err := t.file(place, perm, file, why); err != nil {
			return err
		}
		if sys.Nlink > 1 {
			t.entries[place].link = fmt.Sprintf("%d %d", sys.Dev, sys.Ino)
		}
		return nil
	case mode&fs.ModeSymlink != 0:
		target, err := os.Readlink(file)
		if err != nil {
			return err
		}
		return t.symlink(place, target, why)
	case mode&fs.ModeNamedPipe != 0:
		return t.device(place, newc.TypeFIFO|allPermissions(st), 0, 0, why)
	case mode&fs.ModeDevice != 0:
		typ := uint32(newc.TypeBlock)
		if mode&fs.ModeCharDevice != 0 {
			typ = newc.TypeChar
		}
		return t.device(place, typ|allPermissions(st), unix.Major(uint64(sys.Rdev)), unix.Minor(uint64(sys.Rdev)), why)
	}
	return fmt.Errorf("%s: is a socket, which an image cannot have", file)
}
