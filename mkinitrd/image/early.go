package image

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/compress"
	"storeboot/templates"
)

// microcodes are where the files of a vendor are, below the firmware directory,
// and the one name that the kernel looks for (Documentation/x86/microcode.rst).
var microcodes = map[string]struct {
	pattern string
	only    *regexp.Regexp
	place   string
}{
	"intel": {"intel-ucode/*", regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{2}-[0-9a-f]{2}$`), "/kernel/x86/microcode/GenuineIntel.bin"},
	"amd":   {"amd-ucode/*.bin", regexp.MustCompile(`^microcode_amd.*\.bin$`), "/kernel/x86/microcode/AuthenticAMD.bin"},
}

// microcode is the segment with the processors' microcode: one file per vendor,
// all of its files one after the other.
func (b *Builder) microcode() ([]Segment, error) {
	t := newTree()
	for _, m := range b.Template.Microcode {
		v := microcodes[m.Vendor]
		var data bytes.Buffer
		dir := b.Sysroot + "/lib/firmware"
		files, _ := filepath.Glob(filepath.Join(dir, v.pattern))
		slices.Sort(files)
		for _, f := range files {
			if !v.only.MatchString(filepath.Base(f)) {
				continue
			}
			text, err := os.ReadFile(f)
			if err != nil {
				return nil, m.At.Wrap(err)
			}
			data.Write(text)
		}
		if data.Len() == 0 {
			if m.Optional {
				b.Log.Info("microcode is not installed", "vendor", m.Vendor)
				continue
			}
			return nil, m.At.Wrap(fmt.Errorf("microcode %s: none in %s: install it (apt-get install %s)", m.Vendor, filepath.Join(dir, filepath.Dir(v.pattern)), map[string]string{"intel": "intel-microcode", "amd": "amd64-microcode"}[m.Vendor]))
		}
		if err := t.data(v.place, 0o644, data.Bytes(), Reason{Why: "microcode " + m.Vendor, At: m.At.String(), Origin: filepath.Join(dir, filepath.Dir(v.pattern))}); err != nil {
			return nil, err
		}
	}
	if len(t.entries) == 0 {
		return nil, nil
	}
	entries, err := t.list()
	return []Segment{{Entries: entries, Raw: true}}, err
}

func (b *Builder) earlyArchives() ([]Segment, error) { return b.givenArchives(true) }
func (b *Builder) archives() ([]Segment, error)      { return b.givenArchives(false) }

// givenArchives are the template's archives, as they are. Each is read through:
// what the kernel could not unpack is an error here.
func (b *Builder) givenArchives(early bool) ([]Segment, error) {
	var out []Segment
	for _, a := range b.Template.Archives {
		if a.Early != early {
			continue
		}
		s, err := readArchive(a)
		if err != nil {
			return nil, a.At.Wrap(err)
		}
		out = append(out, s)
	}
	return out, nil
}

func readArchive(a templates.Archive) (Segment, error) {
	s := Segment{Archive: a.Source, Raw: a.Early}
	f, err := os.Open(a.Source)
	if err != nil {
		return s, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return s, errors.Join(err, fmt.Errorf("archive %s: not a regular file", a.Source))
	}
	_, err = archive.Walk(f, func(e archive.Entry) error {
		if codec := e.Segment.Codec; a.Early && codec != compress.None {
			return fmt.Errorf("is compressed with %s: the kernel reads early archives before it can unpack", codec)
		}
		s.Entries = append(s.Entries, Entry{Header: *e.Header, Reason: Reason{Why: "archive " + a.Source, At: a.At.String(), Origin: a.Source}})
		return nil
	})
	if err != nil {
		return s, fmt.Errorf("archive %s: %w", a.Source, err)
	}
	return s, nil
}
