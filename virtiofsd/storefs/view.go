package storefs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"storeboot/virtiofsd/castore"
)

// View is how a store is shown. The zero value is what is fastest: the root is
// listed, and there are no extended attributes, of which the kernel learns once
// and never asks again.
type View struct {
	// HideRoot refuses to list the root directory (EPERM): who knows the name of
	// a store path can use it, and nobody learns of others.
	HideRoot bool
	// DigestPrefix begins the names of the extended attributes with the digests,
	// PREFIX.directory.digest and PREFIX.blob.digest. "" for none.
	DigestPrefix string
	// Digest is the text of a digest in them; nil: its String method.
	Digest func(castore.Digest) string
}

// Show sets the view, also of the sessions that there are already: but what their
// kernels have asked before they do not ask again.
func (fs *FS) Show(v View) {
	if v.Digest == nil {
		v.Digest = castore.Digest.String
	}
	fs.view.Store(&v)
}

// shown is the view.
func (fs *FS) shown() View {
	if v := fs.view.Load(); v != nil {
		return *v
	}
	return View{}
}

// digestAttribute is the extended attribute of an inode; "" for none: symlinks
// and the root have no digest.
func (m *mount) digestAttribute(id uint64) (name, value string, status fuse.Status) {
	v := m.fs.shown()
	if v.DigestPrefix == "" {
		return "", "", fuse.ENOSYS
	}
	if id == rootID {
		return "", "", fuse.OK
	}
	i := m.inodes.get(id)
	if i == nil {
		return "", "", fuse.Status(syscall.ESTALE)
	}
	switch i.node.Kind {
	case castore.KindDirectory:
		return v.DigestPrefix + ".directory.digest", v.Digest(i.node.Digest), fuse.OK
	case castore.KindFile:
		return v.DigestPrefix + ".blob.digest", v.Digest(i.node.Digest), fuse.OK
	}
	return "", "", fuse.OK
}

// GetXAttr and ListXAttr write to dest and return how long the answer is; one
// that is longer than dest is not written (ERANGE).
func (m *mount) GetXAttr(_ <-chan struct{}, header *fuse.InHeader, attr string, dest []byte) (uint32, fuse.Status) {
	name, value, status := m.digestAttribute(header.NodeId)
	switch {
	case status != fuse.OK:
		return 0, status
	case name == "" || attr != name:
		return 0, fuse.ENOATTR
	}
	return answer(dest, value)
}

func (m *mount) ListXAttr(_ <-chan struct{}, header *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	name, _, status := m.digestAttribute(header.NodeId)
	switch {
	case status != fuse.OK:
		return 0, status
	case name == "":
		return 0, fuse.OK
	}
	return answer(dest, name+"\x00")
}

func answer(dest []byte, s string) (uint32, fuse.Status) {
	if len(dest) < len(s) {
		return uint32(len(s)), fuse.ERANGE
	}
	return uint32(copy(dest, s)), fuse.OK
}
