package elfdep

import (
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// note is one entry of .note.dlopen.
type note struct {
	names    []string // the first that is there is taken
	feature  string
	priority Priority
}

func (n note) about() string {
	p := map[Priority]string{Required: "required", Recommended: "recommended", Suggested: "suggested"}[n.priority]
	if n.feature != "" {
		return p + ", " + n.feature
	}
	return p
}

const (
	noteSection = ".note.dlopen"
	noteType    = 0x407c0c0a
	noteOwner   = "FDO\x00"
)

func readNotes(e *elf.File) ([]note, error) {
	s := e.Section(noteSection)
	if s == nil || s.Type != elf.SHT_NOTE {
		return nil, nil
	}
	b := make([]byte, min(s.Size, maxNote))
	if n, err := s.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) || n < len(b) {
		return nil, fmt.Errorf("read %s: %w", noteSection, io.ErrUnexpectedEOF)
	}
	var out []note
	for len(b) > 0 {
		if len(b) < 12 {
			return nil, fmt.Errorf("read %s: %w", noteSection, io.ErrUnexpectedEOF)
		}
		nameSize, size, typ := uint64(e.ByteOrder.Uint32(b)), uint64(e.ByteOrder.Uint32(b[4:])), e.ByteOrder.Uint32(b[8:])
		at, end := 12+(nameSize+3)&^3, 12+(nameSize+3)&^3+size
		if nameSize > maxNote || size > maxNote || end > uint64(len(b)) {
			return nil, fmt.Errorf("read %s: %w", noteSection, io.ErrUnexpectedEOF)
		}
		if typ == noteType && string(b[12:12+nameSize]) == noteOwner {
			list, err := parseNote(b[at:end])
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", noteSection, err)
			}
			out = append(out, list...)
		}
		b = b[min((end+3)&^3, uint64(len(b))):]
	}
	return out, nil
}

// parseNote parses the JSON of one note, which ends in a NUL.
func parseNote(b []byte) ([]note, error) {
	for len(b) > 0 && b[len(b)-1] == 0 {
		b = b[:len(b)-1]
	}
	var list []struct {
		Feature  string   `json:"feature"`
		Priority string   `json:"priority"`
		Names    []string `json:"soname"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, err
	}
	var out []note
	for _, x := range list {
		n := note{names: x.Names, feature: x.Feature, priority: Recommended}
		switch x.Priority {
		case "required":
			n.priority = Required
		case "suggested":
			n.priority = Suggested
		}
		out = append(out, n)
	}
	return out, nil
}
