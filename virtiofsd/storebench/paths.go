package storebench

import (
	"bytes"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"net/url"
	"os"
	"slices"

	_ "modernc.org/sqlite"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/sqlitestore"
)

// fewReferences is how many references a path of [Paths] has at most.
const fewReferences = 4

// Path is the store path i of a store that [Paths] made.
func Path(i int) storepath.StorePath {
	digest := sum("path", i)
	return storepath.StorePath{Hash: storepath.Hash(digest[:storepath.HashSize]), Name: fmt.Sprintf("package-%d.%d", i, i%7)}
}

// Directory is the root of path i: it has one file, whose blob is not there.
func Directory(i int) (*castore.Directory, error) {
	return castore.NewDirectory([]castore.Entry{{Name: "file", Node: castore.Node{Kind: castore.KindFile, Digest: sum("blob", i), Size: 1}}})
}

// PathInfo is what is known of path i.
func PathInfo(i int) (*pathinfo.PathInfo, error) {
	dir, err := Directory(i)
	if err != nil {
		return nil, err
	}
	p := &pathinfo.PathInfo{StorePath: Path(i), Node: dir.Node(), NarSize: 416, NarSHA256: sum("nar", i)}
	for k := range min(i%(fewReferences+1), i) {
		p.References = append(p.References, Path((i-1)/(k+2)))
	}
	return p, nil
}

func sum(what string, i int) [sha256.Size]byte {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte(what), uint64(i)))
}

// row is a row of a table: the key and the encoded value.
type row struct{ key, encoded []byte }

// Paths makes a store database in file with n paths and their directories, or
// leaves one alone that is there. It goes past the services, in one
// transaction without syncs: a million paths take a minute.
func Paths(file string, n int) error {
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	fresh := file + ".part"
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(fresh + suffix) // of a run that was killed
	}
	db, err := sqlitestore.Open(fresh) // with its tables
	if err == nil {
		err = db.Close()
	}
	if err == nil {
		err = insert(fresh, n)
	}
	if err == nil {
		err = os.Rename(fresh, file)
	}
	if err != nil {
		return fmt.Errorf("make a store of %d paths: %w", n, err)
	}
	return nil
}

func insert(file string, n int) (err error) {
	address := url.URL{Scheme: "file", Path: file, RawQuery: "_pragma=synchronous(OFF)&_pragma=cache_size(-262144)"}
	db, err := sql.Open("sqlite", address.String())
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := db.Close(); err == nil { // it empties the WAL
			err = closeErr
		}
	}()
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	infos, dirs := make([]row, n), make([]row, n)
	for i := range n {
		p, err := PathInfo(i)
		if err != nil {
			return err
		}
		d, err := Directory(i)
		if err != nil {
			return err
		}
		encoded, err := p.Encode()
		if err != nil {
			return err
		}
		digest := d.Digest()
		infos[i] = row{slices.Clone(p.StorePath.Hash[:]), encoded}
		dirs[i] = row{digest[:], d.Encoded()}
	}
	if err := insertRows(tx, "INSERT INTO path_info (hash, encoded, used) VALUES (?, ?, 1700000000)", infos); err != nil {
		return err
	}
	if err := insertRows(tx, "INSERT INTO directory (digest, encoded, used) VALUES (?, ?, 1700000000)", dirs); err != nil {
		return err
	}
	return tx.Commit()
}

// insertRows inserts rows in the order of their keys, which the index likes.
func insertRows(tx *sql.Tx, query string, rows []row) error {
	slices.SortFunc(rows, func(a, b row) int {
		return bytes.Compare(a.key, b.key)
	})
	stmt, err := tx.Prepare(query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	for _, r := range rows {
		if _, err := stmt.Exec(r.key, r.encoded); err != nil {
			return err
		}
	}
	return nil
}
