package sqlitestore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// unwritable says why this process cannot write to a database file that is
// there: it has to make files beside it. nil: it can.
func unwritable(file string) error {
	for _, path := range []string{file, filepath.Dir(file)} {
		err := unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK, unix.AT_EACCESS)
		if errors.Is(err, unix.EROFS) || errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
			return &fs.PathError{Op: "write to", Path: path, Err: err}
		}
	}
	return nil
}

// cannotWrite is the error of a write to a database that can only be read.
func cannotWrite(why error) error {
	return fmt.Errorf("%w: make it writable or use another store", why)
}

// connectReadOnly makes a pool of connections to a file that this process cannot
// write to. It must be closed.
//
// SQLite reads a file in WAL mode only together with the files -wal and -shm
// beside it. They are there as long as another process has the file open, or
// after one was killed. When they are not, nobody writes, and a connection may
// take the file for unchangeable (immutable=1), which needs neither. As somebody
// may begin to write later, each use of such a connection looks whether the file
// is still as it was, and makes way for another connection if not.
func connectReadOnly(file string) *sql.DB { return sql.OpenDB(readOnlyConnector{file}) }

type readOnlyConnector struct{ file string }

func (c readOnlyConnector) Driver() driver.Driver { return &sqlite.Driver{} }

func (c readOnlyConnector) Connect(context.Context) (driver.Conn, error) {
	// Between a look at the files and opening them a writer may come or go.
	for attempt := 1; ; attempt++ {
		conn, err := c.open("ro", "")
		if err == nil {
			return conn, nil
		}
		if !isCantOpen(err) || attempt == 10 {
			return nil, err
		}
		before, err := stateOf(c.file)
		if err != nil {
			return nil, err
		}
		if before.wal > 0 {
			// A writer has come meanwhile, or -shm is missing.
			if _, err := os.Stat(c.file + "-shm"); errors.Is(err, fs.ErrNotExist) && attempt > 1 {
				return nil, fmt.Errorf("%s-wal has what a killed process wrote, and cannot be read from a read-only place: open the store once where it can be written to", c.file)
			}
			time.Sleep(time.Millisecond)
			continue
		}
		if conn, err = c.open("ro", "1"); err != nil {
			return nil, err
		}
		if after, err := stateOf(c.file); err != nil || after != before {
			_ = conn.Close()
			continue
		}
		return &immutableConn{conn, c.file, before}, nil
	}
}

// open opens a connection and reads through it once, as errors of the files
// beside the database show only then.
func (c readOnlyConnector) open(mode, immutable string) (driver.Conn, error) {
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout)}, "mode": {mode}}
	if immutable != "" {
		q.Set("immutable", immutable)
	}
	conn, err := (&sqlite.Driver{}).Open((&url.URL{Scheme: "file", Path: c.file, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, err
	}
	stmt, err := conn.Prepare("SELECT count(*) FROM sqlite_master")
	if err == nil {
		err = stmt.Close()
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func isCantOpen(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_CANTOPEN
}

// fileState tells whether a database was written to.
type fileState struct {
	dev, inode uint64
	size       int64
	sec, nsec  int64
	wal        int64 // size of the -wal file, 0 if there is none
}

func stateOf(file string) (fileState, error) {
	var s, w unix.Stat_t
	if err := unix.Stat(file, &s); err != nil {
		return fileState{}, &fs.PathError{Op: "stat", Path: file, Err: err}
	}
	if err := unix.Stat(file+"-wal", &w); err != nil && err != unix.ENOENT {
		return fileState{}, &fs.PathError{Op: "stat", Path: file + "-wal", Err: err}
	}
	return fileState{uint64(s.Dev), s.Ino, s.Size, int64(s.Mtim.Sec), int64(s.Mtim.Nsec), w.Size}, nil
}

// immutableConn is a connection that is of use as long as nobody writes to the
// file. Of the driver's interfaces it has the least.
type immutableConn struct {
	driver.Conn
	file  string
	state fileState
}

var (
	_ driver.SessionResetter = (*immutableConn)(nil)
	_ driver.Validator       = (*immutableConn)(nil)
)

func (c *immutableConn) IsValid() bool {
	now, err := stateOf(c.file)
	return err == nil && now == c.state
}

// ResetSession is called before each use of the connection.
func (c *immutableConn) ResetSession(context.Context) error {
	if !c.IsValid() {
		return driver.ErrBadConn
	}
	return nil
}
