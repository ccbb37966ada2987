package manifest

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/image"
)

func sample() *image.Image {
	entry := func(name string, mode uint32, data string, why image.Reason) image.Entry {
		return image.Entry{Header: newc.Header{Name: name, Mode: mode, Size: int64(len(data))}, Data: []byte(data), Reason: why}
	}
	return &image.Image{Template: "t", Segments: []image.Segment{{Entries: []image.Entry{
		entry("bin", newc.TypeDirectory|0o755, "", image.Reason{Why: "directory of /bin/x", By: "/bin/x"}),
		entry("bin/x", newc.TypeRegular|0o755, "hello", image.Reason{Why: "program", At: "t.yaml:3:5", Origin: "/home/me/x"}),
	}}, {Entries: []image.Entry{
		entry("lib.so", newc.TypeRegular|0o644, "lib", image.Reason{Why: "library lib.so", By: "/bin/x"}),
		entry("ln", newc.TypeSymlink|0o777, "bin/x", image.Reason{Why: "symlink", By: "/gone"}),
		{Header: newc.Header{Name: "dev", Mode: newc.TypeChar | 0o600, RDevMajor: 5, RDevMinor: 1}, Reason: image.Reason{Why: "loop", By: "/dev"}},
	}}}}
}

func TestManifest(t *testing.T) {
	m, err := New(sample())
	if err != nil {
		t.Fatal(err)
	}
	m.Image = &File{Name: "initrd", Size: 10, SHA256: strings.Repeat("0", 64)}
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if data2, err := again.Encode(); err != nil || !bytes.Equal(data, data2) {
		t.Errorf("%v: became\n%s", err, data2)
	}
	e := again.Entries[1]
	const hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	if e.Path != "/bin/x" || e.SHA256 != hello || e.Mode != "0755" || e.Type != "file" || e.Origin != "/home/me/x" {
		t.Errorf("entry %+v", e)
	}
	if e := again.Entries[3]; e.Target != "bin/x" || e.Segment != 1 {
		t.Errorf("link %+v", e)
	}
	if e := again.Entries[4]; e.Device != "5,1" {
		t.Errorf("device %+v", e)
	}
	inside, err := m.Embedded().Encode()
	if err != nil || bytes.Contains(inside, []byte("/home/me")) || bytes.Contains(inside, []byte("initrd")) {
		t.Errorf("embedded: %v: %s", err, inside)
	}
	for _, bad := range []string{"", "{}", `{"version":2}`, `{"version":1,"x":1}`} {
		if _, err := Parse(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestWhy(t *testing.T) {
	m, err := New(sample())
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"lib.so": "/lib.so /bin/x", "/bin": "/bin /bin/x", "/bin/../ln": "/ln", "/dev": "/dev",
	} {
		chain, err := m.Why(path)
		var got []string
		for _, e := range chain {
			got = append(got, e.Path)
		}
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %q, %v, want %s", path, got, err, want)
		}
	}
	if _, err := m.Why("/none"); err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("error %v", err)
	}
}

// TestSPDX holds what the format requires of a document.
func TestSPDX(t *testing.T) {
	m, err := New(sample())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.SPDX(time.Unix(0, 0), "1"); err == nil {
		t.Error("a bill without an image was made")
	}
	m.Image = &File{Name: "initrd", SHA256: strings.Repeat("0", 64)}
	m.Entries[1].Modules = []string{"example.org/m@v1.2.3", "std@go1.26"}
	data, err := m.SPDX(time.Unix(1e9, 0), "1 x")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		SPDXVersion, DataLicense, DocumentNamespace string
		CreationInfo                                struct{ Created string }
		Packages                                    []struct{ Name, SPDXID string }
		Files                                       []struct {
			SPDXID    string
			Checksums []struct{ Algorithm string }
		}
		Relationships []struct{ SpdxElementId, RelatedSpdxElement string }
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	if d.SPDXVersion != "SPDX-2.3" || d.DataLicense != "CC0-1.0" || d.DocumentNamespace == "" || d.CreationInfo.Created != "2001-09-09T01:46:40Z" {
		t.Errorf("document %+v", d)
	}
	ids := map[string]bool{"SPDXRef-DOCUMENT": true}
	for _, p := range d.Packages {
		ids[p.SPDXID] = true
	}
	for _, f := range d.Files {
		ids[f.SPDXID] = true
		if len(f.Checksums) == 0 || f.Checksums[0].Algorithm != "SHA1" {
			t.Errorf("file %+v lacks the SHA-1 that the format asks for", f)
		}
	}
	if len(d.Packages) != 3 || len(d.Files) != 2 {
		t.Errorf("%d packages, %d files", len(d.Packages), len(d.Files))
	}
	for _, r := range d.Relationships {
		if !ids[r.SpdxElementId] || !ids[r.RelatedSpdxElement] {
			t.Errorf("relationship %+v names nothing", r)
		}
	}
}

// FuzzParse reads arbitrary manifests, and asks each why.
func FuzzParse(f *testing.F) {
	m, err := New(sample())
	if err != nil {
		f.Fatal(err)
	}
	data, err := m.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := Parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, e := range m.Entries[:min(10, len(m.Entries))] {
			if chain, err := m.Why(e.Path); err == nil && len(chain) > len(m.Entries) {
				t.Errorf("%s: a chain of %d", e.Path, len(chain))
			}
		}
	})
}
