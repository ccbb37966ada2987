package manifest

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/image"
)

// EmbeddedPath is where a manifest is in its image.
const EmbeddedPath = "/etc/storeboot/manifest.json"

// Version is that of the format. A reader refuses any other.
const Version = 1

// maxSize is the size of the largest manifest that is read.
const maxSize = 256 << 20

// Manifest is what an image holds.
type Manifest struct {
	Version     int     `json:"version"`
	Image       *File   `json:"image,omitempty"` // nil in the image itself
	Template    string  `json:"template"`
	Release     string  `json:"release,omitempty"` // of the kernel
	Arch        string  `json:"arch,omitempty"`
	Compression string  `json:"compression,omitempty"`
	Entries     []Entry `json:"entries"`
}

// File is the image itself.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// Entry is one entry of the image.
type Entry struct {
	Path    string `json:"path"`
	Segment int    `json:"segment"`
	Type    string `json:"type"` // file, directory, symlink, char, block, fifo, socket
	Mode    string `json:"mode"` // octal
	UID     uint32 `json:"uid,omitempty"`
	GID     uint32 `json:"gid,omitempty"`
	Size    int64  `json:"size"`
	Target  string `json:"target,omitempty"`  // of a symlink
	LinkTo  string `json:"link_to,omitempty"` // the other name that has the data
	Device  string `json:"device,omitempty"`  // major,minor
	SHA256  string `json:"sha256,omitempty"`  // of a file's data
	SHA1    string `json:"sha1,omitempty"`    // which SPDX wants
	Why     string `json:"why"`
	By      string `json:"by,omitempty"`     // the entry that needs it
	At      string `json:"at,omitempty"`     // the place in the template
	Origin  string `json:"origin,omitempty"` // what it was made of
	// Modules are the Go modules that a program is built of, MODULE@VERSION.
	Modules []string `json:"modules,omitempty"`
}

// New makes the manifest of an image, and reads all its files for that.
func New(img *image.Image) (*Manifest, error) {
	m := &Manifest{Version: Version, Template: img.Template, Entries: []Entry{}}
	for n, s := range img.Segments {
		for i := range s.Entries {
			e, err := newEntry(&s.Entries[i], s.Archive != "")
			if err != nil {
				return nil, fmt.Errorf("make manifest: %w", err)
			}
			e.Segment = n
			m.Entries = append(m.Entries, e)
		}
	}
	return m, nil
}

func newEntry(e *image.Entry, foreign bool) (Entry, error) {
	out := Entry{
		Path: "/" + e.Name, Type: typeName(e.Type()), Mode: fmt.Sprintf("%04o", e.Perm()), UID: e.UID, GID: e.GID, Size: e.Size,
		Why: e.Why, By: e.By, At: e.At, Origin: e.Origin,
	}
	switch {
	case e.LinkTo() != "":
		out.LinkTo = "/" + e.LinkTo()
	case e.Type() == newc.TypeChar || e.Type() == newc.TypeBlock:
		out.Device = fmt.Sprintf("%d,%d", e.RDevMajor, e.RDevMinor)
	case foreign:
		// What an archive holds was only listed.
	case e.Type() == newc.TypeSymlink:
		out.Target = string(e.Data)
	case e.Type() == newc.TypeRegular:
		r, err := e.Open()
		if err != nil {
			return out, err
		}
		defer r.Close()
		long, short := sha256.New(), sha1.New()
		if _, err := io.Copy(io.MultiWriter(long, short), r); err != nil {
			return out, err
		}
		out.SHA256, out.SHA1 = hex.EncodeToString(long.Sum(nil)), hex.EncodeToString(short.Sum(nil))
		out.Modules = goModules(e)
	}
	return out, nil
}

func typeName(typ uint32) string {
	switch typ {
	case newc.TypeRegular:
		return "file"
	case newc.TypeDirectory:
		return "directory"
	case newc.TypeSymlink:
		return "symlink"
	case newc.TypeChar:
		return "char"
	case newc.TypeBlock:
		return "block"
	case newc.TypeFIFO:
		return "fifo"
	case newc.TypeSocket:
		return "socket"
	}
	return "unknown"
}

// Embedded is the manifest that may be in the image.
func (m *Manifest) Embedded() *Manifest {
	out := *m
	out.Image = nil
	out.Entries = make([]Entry, len(m.Entries))
	for i, e := range m.Entries {
		e.Origin = ""
		out.Entries[i] = e
	}
	return &out
}

// Encode is the JSON of the manifest.
func (m *Manifest) Encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	return append(data, '\n'), err
}

// Parse parses a manifest.
func Parse(r io.Reader) (*Manifest, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if len(data) > maxSize {
		return nil, fmt.Errorf("read manifest: more than %d MiB", maxSize>>20)
	}
	m := &Manifest{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if m.Version != Version {
		return nil, fmt.Errorf("read manifest: version %d, this program reads version %d", m.Version, Version)
	}
	return m, nil
}
