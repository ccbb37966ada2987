package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/staging"
)

const (
	applicationID = 0x53746f72
	schemaVersion = 2
	// busyTimeout is how long a write waits for that of another process, in
	// milliseconds. A large upload holds the lock for seconds.
	busyTimeout = 60_000
	// maxConns is how many queries of one process run at once.
	maxConns = 8
)

const schema = `
CREATE TABLE directory (digest BLOB NOT NULL PRIMARY KEY, encoded BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0);
CREATE TABLE path_info (hash BLOB NOT NULL PRIMARY KEY, encoded BLOB NOT NULL, used INTEGER NOT NULL DEFAULT 0);
`

// upgrade makes version 2 of version 1. Neither statement depends on the size
// of the tables, and programs that know version 1 and have the file open go on.
const upgrade = `
ALTER TABLE directory ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
ALTER TABLE path_info ADD COLUMN used INTEGER NOT NULL DEFAULT 0;
PRAGMA user_version = 2;
`

// DB is an open database file. Its services are valid until it is closed.
type DB struct {
	file     string
	sql      *sql.DB
	readOnly error      // why nothing can be written; nil if it can
	writing  sync.Mutex // writers of this process queue here, not in SQLite

	getDirectory *sql.Stmt
	getPathInfo  *sql.Stmt
	listPathInfo *sql.Stmt
}

// Open opens the database in file, and makes it and its directory if there is
// none. One that this process may not write to, or that lies on a read-only
// disk, can be read; what would write fails and says why.
func Open(file string) (*DB, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return nil, fmt.Errorf("open store database %s: %w", file, err)
	}
	db, err := open(abs)
	if err != nil {
		return nil, fmt.Errorf("open store database %s: %w", file, err)
	}
	return db, nil
}

func open(file string) (*DB, error) {
	if err := create(file); err != nil {
		return nil, err
	}
	readOnly := unwritable(file)
	var pool *sql.DB
	if readOnly != nil {
		pool = connectReadOnly(file)
	} else {
		var err error
		if pool, err = connect(file, "mode", "rw"); err != nil {
			return nil, err
		}
	}
	pool.SetMaxOpenConns(maxConns)
	pool.SetMaxIdleConns(maxConns)
	db := &DB{file: file, sql: pool, readOnly: readOnly}
	err := db.check()
	if err == nil {
		err = db.prepare()
	}
	if err != nil {
		pool.Close()
		return nil, explain(err)
	}
	return db, nil
}

// connect makes a pool of connections to file with further parameters of
// SQLite's file addresses.
func connect(file string, params ...string) (*sql.DB, error) {
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout), "synchronous(FULL)"}, "_txlock": {"immediate"}}
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	return sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: q.Encode()}).String())
}

// check refuses a database of another program or a later version.
func (db *DB) check() error {
	var id, version int
	if err := db.sql.QueryRow("PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if id != applicationID {
		return errForeign
	}
	if err := db.sql.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return err
	}
	if version == 1 && db.readOnly == nil {
		return db.upgrade()
	}
	if version != schemaVersion && version != 1 {
		return fmt.Errorf("its format is version %d and this program knows version %d: use the program that made it, or another store", version, schemaVersion)
	}
	return nil
}

// upgrade makes a database of version 1 one of version 2, unless another
// process does so at the same time.
func (db *DB) upgrade() error {
	return db.write(context.Background(), func(tx *sql.Tx) error {
		var version int
		if err := tx.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != 1 {
			return err
		}
		_, err := tx.Exec(upgrade)
		return err
	})
}

var errForeign = errors.New("not a storeboot database: name another file or store directory")

func (db *DB) prepare() error {
	var errs []error
	prepare := func(query string) *sql.Stmt {
		s, err := db.sql.Prepare(query)
		errs = append(errs, err)
		return s
	}
	db.getDirectory = prepare("SELECT encoded FROM directory WHERE digest = ?")
	db.getPathInfo = prepare("SELECT encoded FROM path_info WHERE hash = ?")
	db.listPathInfo = prepare("SELECT hash, encoded FROM path_info WHERE hash > ? ORDER BY hash LIMIT ?")
	return errors.Join(errs...)
}

// explain gives the errors of SQLite that a user can meet their plain words.
func explain(err error) error {
	if errors.Is(err, errForeign) {
		return errForeign
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_NOTADB:
			return errForeign
		case sqlite3.SQLITE_BUSY:
			return fmt.Errorf("another process has been writing for %d s: %w", busyTimeout/1000, err)
		}
	}
	return err
}

// create makes the database file unless it is there.
func create(file string) error {
	switch _, err := os.Stat(file); {
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	lock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	if _, err := os.Stat(file); err == nil {
		return nil // made by whoever held the lock
	}
	fresh := file + ".new" // one that a killed process left is overwritten
	for _, suffix := range []string{"", "-wal", "-shm", "-journal"} {
		if err := os.Remove(fresh + suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := initialize(fresh); err != nil {
		return err
	}
	if err := os.Rename(fresh, file); err != nil {
		return err
	}
	return lock.Sync() // lock is the directory
}

// initialize makes an empty store database and brings it to the disk, once:
// nobody knows of it yet, so that its statements need not be safe one by one.
func initialize(file string) error {
	pool, err := connect(file, "_pragma", "synchronous(OFF)")
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(1)
	for _, statement := range []string{
		"PRAGMA journal_mode = WAL",
		fmt.Sprintf("PRAGMA application_id = %d", applicationID),
		strings.TrimSpace(schema),
		fmt.Sprintf("PRAGMA user_version = %d", schemaVersion),
	} {
		if _, err = pool.Exec(statement); err != nil {
			break
		}
	}
	if err = errors.Join(err, pool.Close()); err != nil { // the last close empties the WAL
		return err
	}
	return staging.Sync(filepath.Dir(file), []string{file})
}

// Close closes the database. The services are of no more use.
func (db *DB) Close() error {
	return db.sql.Close()
}

// write runs f in a transaction.
func (db *DB) write(ctx context.Context, f func(*sql.Tx) error) error {
	if db.readOnly != nil {
		return cannotWrite(db.readOnly)
	}
	db.writing.Lock()
	defer db.writing.Unlock()
	err := db.transact(ctx, f)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if why := unwritable(db.file); why != nil { // since it was opened
		return cannotWrite(why)
	}
	return explain(err)
}

func (db *DB) transact(ctx context.Context, f func(*sql.Tx) error) error {
	tx, err := db.sql.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// Directories is the directory service of the file. Closing it does nothing.
func (db *DB) Directories() castore.DirectoryService {
	return directories{castore.NewDirectoryService(directoryTable{db}), db}
}

// PathInfos is the path info service of the file. Closing it does nothing.
func (db *DB) PathInfos() pathinfo.Service { return pathInfos{db} }
