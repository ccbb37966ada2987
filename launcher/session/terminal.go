package session

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is the user's terminal.
type Terminal struct {
	file *os.File
}

// NewTerminal returns the terminal of in and out, or nil if they are not both
// one.
func NewTerminal(in io.Reader, out io.Writer) *Terminal {
	i, ok := in.(*os.File)
	if !ok || !IsTerminal(out) || !term.IsTerminal(int(i.Fd())) {
		return nil
	}
	return &Terminal{file: i}
}

// IsTerminal says whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// IsEmptyInput says whether r is known to hold nothing: no file at all, or
// /dev/null.
func IsEmptyInput(r io.Reader) bool {
	f, ok := r.(*os.File)
	if !ok {
		return true
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return true
	}
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && uint64(st.Rdev) == unix.Mkdev(1, 3)
}

// Size is the terminal's size in characters, 0 if it has none.
func (t *Terminal) Size() (rows, columns int) {
	columns, rows, err := term.GetSize(int(t.file.Fd()))
	if err != nil || rows < 0 || columns < 0 || rows > 65535 || columns > 65535 {
		return 0, 0
	}
	return rows, columns
}

// Raw passes every key to the guest. restore puts the terminal back; it may be
// called more than once.
func (t *Terminal) Raw() (restore func(), err error) {
	fd := int(t.file.Fd())
	old, err := term.MakeRaw(fd)
	if err != nil {
		return nil, err
	}
	return func() { _ = term.Restore(fd, old) }, nil
}

const (
	// escapeKey, pressed escapeTimes within escapeWithin, ends the VM, as with
	// systemd-nspawn: Ctrl-].
	escapeKey    = 0x1d
	escapeTimes  = 3
	escapeWithin = time.Second
)

// errEscape means that the user has pressed the escape keys.
var errEscape = errors.New("ended by Ctrl-] three times")

// Escape passes on what is typed until the escape keys, which are an error that
// [IsEscape] knows.
func Escape(r io.Reader) io.Reader { return &escape{r: r, now: time.Now} }

// IsEscape says whether an error came of the escape keys.
func IsEscape(err error) bool { return errors.Is(err, errEscape) }

// escape looks for the escape keys in what is typed.
type escape struct {
	r     io.Reader
	now   func() time.Time
	count int
	since time.Time
}

func (e *escape) Read(b []byte) (int, error) {
	n, err := e.r.Read(b)
	for _, c := range b[:n] {
		if c != escapeKey {
			e.count = 0
			continue
		}
		if now := e.now(); e.count == 0 || now.Sub(e.since) > escapeWithin {
			e.count, e.since = 0, now
		}
		if e.count++; e.count == escapeTimes {
			return 0, errEscape
		}
	}
	return n, err
}

// makeConsole makes the files of a console below prefix: PREFIX.out, and the
// FIFO PREFIX.in if something may be typed.
func makeConsole(out, in string) error {
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if in == "" {
		return nil
	}
	if err := unix.Mkfifo(in, 0o600); err != nil {
		return &os.PathError{Op: "mkfifo", Path: in, Err: err}
	}
	return nil
}

// openInput opens the FIFO of a console, for reading too: an open for writing
// alone waits for a reader, and what is typed before the monitor reads must not
// be lost because the FIFO has nobody else.
func openInput(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR, 0) }

// feed copies r to the FIFO f until r ends or f is closed; but a read of r may
// outlive that.
func feed(f *os.File, r io.Reader) error {
	_, err := io.Copy(onlyWriter{f}, r)
	return err
}

// onlyWriter hides File.ReadFrom, which would splice past escape.
type onlyWriter struct{ io.Writer }
