package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

// slack is castore.UsedSlack in seconds.
const slack = int64(castore.UsedSlack / time.Second)

// sweepPage is how many rows are listed at once. No connection is held between
// pages.
const sweepPage = 4096

// directories is the directory service of a database, with what it can besides.
type directories struct {
	castore.DirectoryService
	db *DB
}

var (
	_ castore.Sweeper  = directories{}
	_ pathinfo.Sweeper = pathInfos{}
)

// row is a row of either table.
type row struct {
	key  []byte
	size int64
	used time.Time
}

// rows yields the rows of a table in the order of their keys.
func (db *DB) rows(ctx context.Context, table, key string) iter.Seq2[row, error] {
	query := fmt.Sprintf("SELECT %s, length(encoded), used FROM %s WHERE %s > ? ORDER BY %s LIMIT %d", key, table, key, key, sweepPage)
	return func(yield func(row, error) bool) {
		last := []byte{}
		for {
			page, err := db.rowPage(ctx, query, last)
			if err != nil {
				yield(row{}, fmt.Errorf("list rows of %s: %w", table, explain(err)))
				return
			}
			for _, r := range page {
				if !yield(r, nil) {
					return
				}
				last = r.key
			}
			if len(page) < sweepPage {
				return
			}
		}
	}
}

func (db *DB) rowPage(ctx context.Context, query string, last []byte) ([]row, error) {
	found, err := db.sql.QueryContext(ctx, query, last)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	var page []row
	for found.Next() {
		var r row
		var used int64
		if err := found.Scan(&r.key, &r.size, &used); err != nil {
			return nil, err
		}
		r.used = time.Unix(used, 0)
		page = append(page, r)
	}
	return page, found.Err()
}

// remove removes rows in one transaction and calls removed with the index of
// each that is gone.
func (db *DB) remove(ctx context.Context, table, key string, keys [][]byte, before time.Time, removed func(i int)) error {
	var gone []int
	err := db.write(ctx, func(tx *sql.Tx) error {
		statement, err := tx.PrepareContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE %s = ? AND used < ?", table, key))
		if err != nil {
			return err
		}
		defer statement.Close()
		for i, k := range keys {
			result, err := statement.ExecContext(ctx, k, before.Unix())
			if err != nil {
				return err
			}
			if n, err := result.RowsAffected(); err != nil {
				return err
			} else if n > 0 {
				gone = append(gone, i)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove from %s: %w", table, err)
	}
	for _, i := range gone {
		removed(i)
	}
	return nil
}

// Items implements [castore.Sweeper].
func (d directories) Items(ctx context.Context) iter.Seq2[castore.Item, error] {
	return func(yield func(castore.Item, error) bool) {
		for r, err := range d.db.rows(ctx, "directory", "digest") {
			var item castore.Item
			if err == nil {
				item = castore.Item{Size: r.size, Used: r.used}
				item.Digest, err = castore.DigestFromBytes(r.key)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Remove implements [castore.Sweeper].
func (d directories) Remove(ctx context.Context, items []castore.Item, before time.Time) ([]castore.Item, error) {
	keys := make([][]byte, len(items))
	for i := range items {
		keys[i] = items[i].Digest[:]
	}
	var removed []castore.Item
	err := d.db.remove(ctx, "directory", "digest", keys, before, func(i int) { removed = append(removed, items[i]) })
	return removed, err
}

// Items implements [pathinfo.Sweeper].
func (s pathInfos) Items(ctx context.Context) iter.Seq2[pathinfo.Item, error] {
	return func(yield func(pathinfo.Item, error) bool) {
		for r, err := range s.db.rows(ctx, "path_info", "hash") {
			item := pathinfo.Item{Used: r.used}
			if err == nil && len(r.key) != storepath.HashSize {
				err = fmt.Errorf("list path infos: a key of %d bytes: the store is damaged", len(r.key))
			}
			copy(item.Hash[:], r.key)
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// Touch implements [pathinfo.Sweeper].
func (s pathInfos) Touch(ctx context.Context, hash storepath.Hash) error {
	var n int64
	err := s.db.write(ctx, func(tx *sql.Tx) error {
		result, err := tx.ExecContext(ctx, "UPDATE path_info SET used = ? WHERE hash = ?", time.Now().Unix(), hash[:])
		if err == nil {
			n, err = result.RowsAffected()
		}
		return err
	})
	if err == nil && n == 0 {
		err = pathinfo.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("touch path info %s: %w", hash, err)
	}
	return nil
}

// Remove implements [pathinfo.Sweeper].
func (s pathInfos) Remove(ctx context.Context, items []pathinfo.Item, before time.Time) ([]pathinfo.Item, error) {
	keys := make([][]byte, len(items))
	for i := range items {
		keys[i] = items[i].Hash[:]
	}
	var removed []pathinfo.Item
	err := s.db.remove(ctx, "path_info", "hash", keys, before, func(i int) { removed = append(removed, items[i]) })
	return removed, err
}
