package storefs

import (
	"encoding/binary"
	"errors"
	"strings"
	"syscall"
	"testing"

	"github.com/zeebo/blake3"

	"storeboot/virtiofsd/castore"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

const opListXAttr = 23

// xattr asks for an extended attribute, or with no name for their list, with a
// buffer of size; with 0 the answer is how long it would be.
func (w *world) xattr(node uint64, name string, size int) (string, uint32, error) {
	w.t.Helper()
	payload := binary.LittleEndian.AppendUint32(nil, uint32(size))
	payload = append(payload, 0, 0, 0, 0)
	op := uint32(opListXAttr)
	if name != "" {
		op = vt.FuseGetxattr
		payload = append(append(payload, name...), 0)
	}
	b, err := w.fuse.Call(op, node, payload, max(size, 8))
	if err != nil || size > 0 {
		return string(b), 0, err
	}
	return "", binary.LittleEndian.Uint32(b), nil
}

// newView is a guest that sees an empty store as v shows it.
func newView(t *testing.T, v View) *world {
	t.Helper()
	w := &world{t: t, store: memoryStore()}
	return w.view(v)
}

// view is one more guest, which sees the store as v shows it.
func (w *world) view(v View) *world {
	w.t.Helper()
	whole := w.fs
	if whole == nil {
		whole = New(w.store, Options{})
		w.t.Cleanup(whole.Close)
	}
	fs, err := whole.View(w.t.Context(), v)
	if err != nil {
		w.t.Fatal(err)
	}
	return (&world{t: w.t, store: w.store}).mount(fs)
}

func TestViewDigests(t *testing.T) {
	w := newView(t, View{DigestPrefix: "user.x"})
	dir := w.add("a", tree{"file": "F", "sub/g": "G", "link": "-> file"})
	for _, tt := range []struct {
		node  uint64
		name  string
		value string
	}{
		{w.find(dir).NodeId, "user.x.directory.digest", ""},
		{w.find(dir + "/sub").NodeId, "user.x.directory.digest", w.put(tree{"g": "G"}, "").Digest.String()},
		{w.find(dir + "/file").NodeId, "user.x.blob.digest", castore.Digest(blake3.Sum256([]byte("F"))).String()},
	} {
		list, _, err := w.xattr(tt.node, "", 100)
		if err != nil || list != tt.name+"\x00" {
			t.Errorf("inode %d lists %q, %v", tt.node, list, err)
		}
		value, _, err := w.xattr(tt.node, tt.name, 100)
		if err != nil || !strings.HasPrefix(value, "blake3-") || tt.value != "" && value != tt.value {
			t.Errorf("inode %d: %s is %q, %v, want %q", tt.node, tt.name, value, err, tt.value)
		}
		if _, n, err := w.xattr(tt.node, tt.name, 0); err != nil || int(n) != len(value) {
			t.Errorf("inode %d: length %d, %v", tt.node, n, err)
		}
		if _, _, err := w.xattr(tt.node, tt.name, len(value)-1); !errors.Is(err, syscall.ERANGE) {
			t.Errorf("inode %d: a short buffer: %v", tt.node, err)
		}
		if _, _, err := w.xattr(tt.node, "security.capability", 100); !errors.Is(err, syscall.ENODATA) {
			t.Errorf("inode %d: another attribute: %v", tt.node, err)
		}
	}
	for _, node := range []uint64{rootID, w.find(dir + "/link").NodeId} {
		if _, n, err := w.xattr(node, "", 0); err != nil || n != 0 {
			t.Errorf("inode %d lists %d bytes, %v", node, n, err)
		}
		if _, _, err := w.xattr(node, "user.x.blob.digest", 100); !errors.Is(err, syscall.ENODATA) {
			t.Errorf("inode %d has a digest: %v", node, err)
		}
	}
	if _, _, err := w.xattr(1<<40, "user.x.blob.digest", 100); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("an inode that is not there: %v", err)
	}
}

func TestViewHidesRoot(t *testing.T) {
	w := newView(t, View{HideRoot: true})
	dir := w.add("a", tree{"file": "F"})
	for _, op := range []uint32{vt.FuseReaddir, vt.FuseReaddirplus} {
		if _, err := w.fuse.Call(op, rootID, readIn(0, 4096), 4096); !errors.Is(err, syscall.EPERM) {
			t.Errorf("the root is listed: %v", err)
		}
	}
	if got := w.readAll(w.find(dir+"/file").NodeId, 10); got != "F" {
		t.Errorf("a file reads %q", got)
	}
	if got := len(w.list(w.find(dir).NodeId, 4096)); got == 0 {
		t.Error("a store path is not listed")
	}
	if _, _, err := w.xattr(w.find(dir).NodeId, "", 0); !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("extended attributes: %v", err)
	}
}
