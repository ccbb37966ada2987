package templates

import "fmt"

// Position is where something stands in a template. The zero Position is that
// of something no template says.
type Position struct {
	File         string
	Line, Column int // from 1; 0 is unknown
}

// String is FILE:LINE:COLUMN, as errors begin; "" for the zero Position.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Wrap puts the position before the error.
func (p Position) Wrap(err error) error {
	if err == nil || p.File == "" {
		return err
	}
	return fmt.Errorf("%s: %w", p, err)
}
