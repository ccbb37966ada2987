package bootproto

import (
	"encoding/json"
	"fmt"
)

// MaxControl is the longest line of the control port in bytes, without its end.
const MaxControl = 256

// Control is what the launcher tells init while the program runs: one line of
// JSON on the port [ControlPortName]. It sets the size of the program's terminal,
// or sends the program a signal; what is 0 changes nothing.
type Control struct {
	Rows    int `json:"rows,omitempty"`
	Columns int `json:"columns,omitempty"`
	Signal  int `json:"signal,omitempty"`
}

// ParseControl parses and checks one line; unknown keys are errors.
func ParseControl(line []byte) (*Control, error) {
	if len(line) > MaxControl {
		return nil, fmt.Errorf("control: %d bytes, at most %d are possible", len(line), MaxControl)
	}
	c := new(Control)
	if err := parse(line, c.read); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	return c, nil
}

// Check says whether c is sound.
func (c *Control) Check() error {
	if c.Signal < 0 || c.Signal > 64 {
		return fmt.Errorf("signal %d: want 1 to 64", c.Signal)
	}
	return checkSize(c.Rows, c.Columns)
}

// Line is c as it is sent, with the line's end.
func (c *Control) Line() ([]byte, error) {
	if err := c.Check(); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	line, err := json.Marshal(c)
	return append(line, '\n'), err
}

// checkSize checks the size of a terminal.
func checkSize(rows, columns int) error {
	if rows < 0 || rows > 65535 || columns < 0 || columns > 65535 {
		return fmt.Errorf("terminal size %d x %d: want 0 to 65535", columns, rows)
	}
	return nil
}
