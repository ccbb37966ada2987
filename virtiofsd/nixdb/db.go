package nixdb

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"
	_ "modernc.org/sqlite" // the driver

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// defaultStateDir is where Nix keeps its state unless NIX_STATE_DIR says
// otherwise.
const defaultStateDir = "/nix/var/nix"

// ValidPath is a store path that Nix holds.
type ValidPath struct {
	StorePath  storepath.StorePath
	NarSHA256  [sha256.Size]byte
	NarSize    uint64                // in bytes; 0 if Nix does not know it
	References []storepath.StorePath // by path, as Nix orders them
	Deriver    *storepath.StorePath  // without ".drv"; nil if unknown
	Signatures []pathinfo.Signature
	CA         *pathinfo.CA // nil if the path is not addressed by content
}

// DB is an open Nix database.
type DB struct {
	root string
	sql  *sql.DB
	path *sql.Stmt
	refs *sql.Stmt
}

// Open opens the database of the local Nix. A root other than "" is that of a
// store of its own, as Nix's local?root=ROOT: the state is in ROOT/nix/var/nix
// and the contents in ROOT/nix/store.
func Open(root string) (*DB, error) {
	dir := filepath.Join(root, defaultStateDir)
	if env := os.Getenv("NIX_STATE_DIR"); env != "" && root == "" {
		dir = env
	}
	file := filepath.Join(dir, "db/db.sqlite")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open the Nix database: there is no %s: no Nix store is here; name another with --nix-root or NIX_STATE_DIR", file)
	} else if err != nil {
		return nil, fmt.Errorf("open the Nix database: %w", err)
	}
	db, err := open(file, "mode=ro&_pragma=busy_timeout(60000)")
	if err != nil {
		var err2 error
		if db, err2 = open(file, "immutable=1"); err2 != nil {
			return nil, fmt.Errorf("open the Nix database %s: %w", file, err)
		}
	}
	db.root = root
	return db, nil
}

// RealPath is where the contents of p are in the file system.
func (db *DB) RealPath(p storepath.StorePath) string {
	return filepath.Join(db.root, p.Absolute())
}

func open(file, query string) (*DB, error) {
	pool, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: file, RawQuery: query}).String())
	if err != nil {
		return nil, err
	}
	path, err1 := pool.Prepare("SELECT id, hash, ifnull(deriver, ''), ifnull(narSize, 0), ifnull(sigs, ''), ifnull(ca, '') FROM ValidPaths WHERE path = ?")
	refs, err2 := pool.Prepare("SELECT path FROM Refs JOIN ValidPaths ON id = reference WHERE referrer = ? ORDER BY path")
	if err := errors.Join(err1, err2); err != nil {
		pool.Close()
		return nil, err
	}
	return &DB{sql: pool, path: path, refs: refs}, nil
}

// Close closes the database.
func (db *DB) Close() error { return db.sql.Close() }

// Closure returns the paths and all that they refer to, each once, each after
// those that it refers to. A path that is not valid is an error that names it.
func (db *DB) Closure(ctx context.Context, paths []storepath.StorePath) ([]ValidPath, error) {
	var closure []ValidPath
	seen := map[storepath.StorePath]bool{}
	type visit struct {
		path ValidPath
		next int // reference to visit
	}
	for _, root := range paths {
		var stack []visit
		enter := func(p storepath.StorePath) error {
			if seen[p] {
				return nil
			}
			seen[p] = true
			v, err := db.validPath(ctx, p)
			if err == nil {
				stack = append(stack, visit{path: v})
			}
			return err
		}
		if err := enter(root); err != nil {
			return nil, err
		}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(top.path.References) {
				closure = append(closure, top.path)
				stack = stack[:len(stack)-1]
				continue
			}
			top.next++
			if err := enter(top.path.References[top.next-1]); err != nil {
				return nil, err
			}
		}
	}
	return closure, nil
}

// validPath reads one path.
func (db *DB) validPath(ctx context.Context, p storepath.StorePath) (ValidPath, error) {
	var id int64
	var hash, deriver, sigs, ca string
	v := ValidPath{StorePath: p}
	err := db.path.QueryRowContext(ctx, p.Absolute()).Scan(&id, &hash, &deriver, &v.NarSize, &sigs, &ca)
	if errors.Is(err, sql.ErrNoRows) {
		return v, fmt.Errorf("%s is not a valid path of the local Nix store: build or fetch it first ('nix-store --realise %s')", p.Absolute(), p.Absolute())
	}
	if err == nil {
		err = v.parse(hash, deriver, sigs, ca)
	}
	if err == nil {
		v.References, err = db.references(ctx, id)
	}
	if err != nil {
		return v, fmt.Errorf("read %s in the Nix database: %w", p.Absolute(), err)
	}
	return v, nil
}

// parse parses the columns of a row.
func (v *ValidPath) parse(hash, deriver, sigs, ca string) (err error) {
	if v.NarSHA256, err = parseHash(hash); err != nil {
		return err
	}
	if deriver != "" {
		d, sub, err := storepath.ParseAbsolute(strings.TrimSuffix(deriver, ".drv"))
		if err != nil || sub != "" {
			return fmt.Errorf("deriver %q is not a store path", deriver)
		}
		v.Deriver = &d
	}
	for _, s := range strings.Fields(sigs) {
		sig, err := pathinfo.ParseSignature(s)
		if err != nil {
			return err
		}
		v.Signatures = append(v.Signatures, sig)
	}
	if ca != "" {
		v.CA, err = pathinfo.ParseCA(ca)
	}
	return err
}

// parseHash parses sha256:HASH, in hexadecimal or nixbase32.
func parseHash(s string) (sum [sha256.Size]byte, err error) {
	text, ok := strings.CutPrefix(s, "sha256:")
	if !ok {
		return sum, fmt.Errorf("NAR hash %q is not a SHA-256", s)
	}
	decode := nixbase32.DecodeString
	if len(text) == hex.EncodedLen(len(sum)) {
		decode = hex.DecodeString
	}
	raw, err := decode(text)
	if err != nil || len(raw) != len(sum) {
		return sum, fmt.Errorf("NAR hash %q is not a SHA-256", s)
	}
	return [sha256.Size]byte(raw), nil
}

func (db *DB) references(ctx context.Context, id int64) ([]storepath.StorePath, error) {
	rows, err := db.refs.QueryContext(ctx, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var refs []storepath.StorePath
	for rows.Next() {
		var path string
		if err := rows.Scan(&path); err != nil {
			return nil, err
		}
		p, sub, err := storepath.ParseAbsolute(path)
		if err != nil || sub != "" {
			return nil, fmt.Errorf("reference %q is not a store path", path)
		}
		refs = append(refs, p)
	}
	return refs, rows.Err()
}
