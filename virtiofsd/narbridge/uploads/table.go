package uploads

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"storeboot/virtiofsd/castore"
)

const (
	applicationID = 0x53746275
	schemaVersion = 1
	// busyTimeout is how long a write waits for that of another process, in
	// milliseconds. Writes are single rows.
	busyTimeout = 30_000
	// pruneEvery is after how many rows the table is looked through for old ones.
	pruneEvery = 256
)

const schema = `
CREATE TABLE upload (file BLOB NOT NULL PRIMARY KEY, file_size INTEGER NOT NULL, nar BLOB NOT NULL, nar_size INTEGER NOT NULL, node BLOB NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX upload_nar ON upload (nar);
CREATE INDEX upload_used ON upload (used);
`

// ErrNotFound is what ByFile and ByNAR return, wrapped, for a hash that is not
// in the table.
var ErrNotFound = errors.New("not uploaded here")

// Upload is one uploaded file. Sizes are in bytes and below 1<<63.
type Upload struct {
	FileSHA256 [sha256.Size]byte
	FileSize   uint64
	NarSHA256  [sha256.Size]byte
	NarSize    uint64
	Node       castore.Node
	// Used is when it was last uploaded or asked for, in whole seconds.
	Used time.Time
}

// Limits bound a table.
type Limits struct {
	// Age is for how long an upload is remembered after its last use.
	Age time.Duration
	// Rows is how many are, give or take pruneEvery.
	Rows int
}

// Table is an open table. All methods may be called by several goroutines at
// once.
type Table struct {
	sql    *sql.DB
	limits Limits
	puts   atomic.Int64
}

// Open opens the table in file, and makes it and its directory if there is none.
// An empty name is a table in memory.
func Open(file string, limits Limits) (*Table, error) {
	t, err := open(file, limits)
	if err != nil {
		return nil, fmt.Errorf("open table of uploads %s: %w", file, err)
	}
	return t, nil
}

func open(file string, limits Limits) (*Table, error) {
	q := url.Values{"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout), "synchronous(NORMAL)"}, "_txlock": {"immediate"}}
	address := url.URL{Scheme: "file", Opaque: ":memory:", RawQuery: q.Encode()}
	if file != "" {
		abs, err := filepath.Abs(file)
		if err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(abs), 0o755); err != nil {
			return nil, err
		}
		address = url.URL{Scheme: "file", Path: abs, RawQuery: q.Encode()}
	}
	pool, err := sql.Open("sqlite", address.String())
	if err != nil {
		return nil, err
	}
	// One connection: rows are small and look-ups short, and it is what a table
	// in memory needs.
	pool.SetMaxOpenConns(1)
	t := &Table{sql: pool, limits: limits}
	if err := errors.Join(t.create(), t.prune(context.Background())); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return t, nil
}

// create makes the table unless it is there. Several processes may do so at
// once, and be killed.
func (t *Table) create() error {
	id, version, err := look(t.sql)
	if err == nil && version == 0 && (id == 0 || id == applicationID) {
		id, version, err = t.initialize()
	}
	switch {
	case err != nil:
		return explain(err)
	case id != applicationID:
		return errForeign
	case version != schemaVersion:
		return fmt.Errorf("its format is version %d and this program knows version %d: use the program that made it, or name another file", version, schemaVersion)
	}
	return nil
}

// look returns what the file says that it is. Another process that makes the
// table sets both numbers at once, which outside a transaction may be between
// the two reads here. So the version is read first: a version other than 0 is
// never seen without the identity that was set with it.
func look(q interface {
	QueryRow(string, ...any) *sql.Row
}) (id, version int, err error) {
	if err := q.QueryRow("PRAGMA user_version").Scan(&version); err != nil {
		return 0, 0, err
	}
	err = q.QueryRow("PRAGMA application_id").Scan(&id)
	return id, version, err
}

func (t *Table) initialize() (id, version int, err error) {
	// The mode is in the file. SQLite does not wait for others who change it too,
	// so that this is tried again.
	for try := 0; ; try++ {
		_, err := t.sql.Exec("PRAGMA journal_mode = WAL")
		if err == nil {
			break
		}
		if !isBusy(err) || try == 100 {
			return 0, 0, err
		}
		time.Sleep(20 * time.Millisecond)
	}
	tx, err := t.sql.Begin()
	if err != nil {
		return 0, 0, err
	}
	defer tx.Rollback()
	if id, version, err := look(tx); err != nil || id != 0 || version != 0 {
		return id, version, err // another process was first
	}
	var tables int
	if err := tx.QueryRow("SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return 0, 0, err
	}
	if tables != 0 {
		return 0, 0, errForeign
	}
	if _, err := tx.Exec(schema + fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d;", applicationID, schemaVersion)); err != nil {
		return 0, 0, err
	}
	return applicationID, schemaVersion, tx.Commit()
}

var errForeign = errors.New("not a table of uploads: name another file")

func isBusy(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_BUSY
}

// explain gives the errors of SQLite that a user can meet their plain words.
func explain(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) && e.Code()&0xff == sqlite3.SQLITE_NOTADB {
		return errForeign
	}
	return err
}

// Put notes an upload, and forgets old ones now and then. Used is set to now.
func (t *Table) Put(ctx context.Context, u Upload) error {
	if u.FileSize > math.MaxInt64 || u.NarSize > math.MaxInt64 {
		return fmt.Errorf("note upload: sizes %d and %d are too large", u.FileSize, u.NarSize)
	}
	node := castore.AppendEntry(nil, castore.Entry{Node: u.Node})
	if node == nil {
		node = []byte{}
	}
	_, err := t.sql.ExecContext(ctx, "INSERT OR REPLACE INTO upload (file, file_size, nar, nar_size, node, used) VALUES (?, ?, ?, ?, ?, ?)",
		u.FileSHA256[:], int64(u.FileSize), u.NarSHA256[:], int64(u.NarSize), node, time.Now().Unix())
	if err == nil && t.puts.Add(1)%pruneEvery == 0 {
		err = t.prune(ctx)
	}
	if err != nil {
		return fmt.Errorf("note upload: %w", err)
	}
	return nil
}

// ByFile returns the upload of the file with that SHA-256, or ErrNotFound.
func (t *Table) ByFile(ctx context.Context, sum [sha256.Size]byte) (Upload, error) {
	return t.get(ctx, "file", sum)
}

// ByNAR returns an upload of the NAR with that SHA-256, compressed or not, or
// ErrNotFound.
func (t *Table) ByNAR(ctx context.Context, sum [sha256.Size]byte) (Upload, error) {
	return t.get(ctx, "nar", sum)
}

func (t *Table) get(ctx context.Context, column string, sum [sha256.Size]byte) (Upload, error) {
	u, err := t.scan(t.sql.QueryRowContext(ctx, "SELECT file, file_size, nar, nar_size, node, used FROM upload WHERE "+column+" = ? ORDER BY used DESC LIMIT 1", sum[:]))
	if err == nil && u.Used.Before(time.Now().Add(-t.limits.Age)) {
		err = ErrNotFound
	}
	if err != nil {
		return Upload{}, fmt.Errorf("look up the upload %x: %w", sum, err)
	}
	return u, nil
}

// scan reads and checks a row.
func (t *Table) scan(row *sql.Row) (u Upload, err error) {
	var file, nar, node []byte
	var fileSize, narSize, used int64
	err = row.Scan(&file, &fileSize, &nar, &narSize, &node, &used)
	if errors.Is(err, sql.ErrNoRows) {
		return u, ErrNotFound
	}
	if err != nil {
		return u, err
	}
	e, err := castore.ParseEntry(node)
	if err == nil && (len(file) != sha256.Size || len(nar) != sha256.Size || fileSize < 0 || narSize < 0 || e.Name != "") {
		err = errors.New("a hash of another length, a negative size or a node with a name")
	}
	if err != nil {
		return u, fmt.Errorf("the row is damaged: %w: remove the table of uploads", err)
	}
	return Upload{
		FileSHA256: [sha256.Size]byte(file), FileSize: uint64(fileSize),
		NarSHA256: [sha256.Size]byte(nar), NarSize: uint64(narSize),
		Node: e.Node, Used: time.Unix(used, 0),
	}, nil
}

// Forget removes the uploads of a NAR, whose tree is no longer in the store.
func (t *Table) Forget(ctx context.Context, narSHA256 [sha256.Size]byte) error {
	if _, err := t.sql.ExecContext(ctx, "DELETE FROM upload WHERE nar = ?", narSHA256[:]); err != nil {
		return fmt.Errorf("forget upload %x: %w", narSHA256, err)
	}
	return nil
}

// prune removes what is too old and too much.
func (t *Table) prune(ctx context.Context) error {
	_, err := t.sql.ExecContext(ctx, "DELETE FROM upload WHERE used < ?", time.Now().Add(-t.limits.Age).Unix())
	if err == nil {
		_, err = t.sql.ExecContext(ctx, "DELETE FROM upload WHERE file IN (SELECT file FROM upload ORDER BY used DESC LIMIT -1 OFFSET ?)", t.limits.Rows)
	}
	return err
}

// Close closes the table.
func (t *Table) Close() error { return t.sql.Close() }
