package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func (db *DB) mustExec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := db.sql.Exec(query, args...); err != nil {
		t.Fatal(err)
	}
}

func TestDirectorySweeper(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite"))
	s := db.Directories()
	dirs := map[castore.Digest]*castore.Directory{}
	put := func(i int) castore.Digest {
		d := castoretest.NewDirectory(t, castore.Entry{Name: fmt.Sprint("entry ", i), Node: castore.Node{Kind: castore.KindFile}})
		dirs[d.Digest()] = d
		if _, err := castoretest.PutDirectories(s, d); err != nil {
			t.Fatal(err)
		}
		return d.Digest()
	}
	has := func(d castore.Digest) bool {
		_, err := s.Get(context.Background(), d)
		if err != nil && !errors.Is(err, castore.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	// To use a directory is to put it again, which only says so if it is there.
	use := func(d castore.Digest) bool {
		if !has(d) {
			return false
		}
		_, err := castoretest.PutDirectories(s, dirs[d])
		return err == nil
	}
	castoretest.TestSweeper(t, s.(castore.Sweeper), put, use, has, func() { db.mustExec(t, "UPDATE directory SET used = used - 86400") })
}

func TestPathInfoSweeper(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite"))
	infos := db.PathInfos()
	s := infos.(pathinfo.Sweeper)
	const n = sweepPage + 5 // more than a page
	if err := db.write(ctx, func(tx *sql.Tx) error {
		for i := range n {
			p := pathinfotest.Bare(fmt.Sprint("p", i))
			b, err := p.Encode()
			if err != nil {
				return err
			}
			if _, err := tx.Exec("INSERT INTO path_info (hash, encoded, used) VALUES (?, ?, ?)", p.StorePath.Hash[:], b, 1000); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	list := func() (items []pathinfo.Item) {
		t.Helper()
		for item, err := range s.Items(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, item)
		}
		return items
	}
	items := list()
	if len(items) != n || items[0].Used != time.Unix(1000, 0) {
		t.Fatalf("%d are listed, %v", len(items), items[0].Used)
	}
	if err := s.Touch(ctx, items[0].Hash); err != nil {
		t.Fatal(err)
	}
	if err := s.Touch(ctx, pathinfotest.Path("nothing").Hash); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("Touch of nothing: %v", err)
	}
	removed, err := s.Remove(ctx, items[:10], time.Unix(2000, 0))
	if err != nil || len(removed) != 9 || removed[0] != items[1] {
		t.Errorf("%d were removed, %v", len(removed), err)
	}
	if _, err := infos.Get(ctx, items[1].Hash); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("Get of a removed one: %v", err)
	}
	if _, err := infos.Get(ctx, items[0].Hash); err != nil {
		t.Error(err)
	}
	if removed, err := s.Remove(ctx, items, time.Unix(math.MaxInt32*1000, 0)); err != nil || len(removed) != n-9 {
		t.Errorf("%d were removed, %v", len(removed), err)
	}
	// A put is a use.
	if _, err := infos.Put(ctx, pathinfotest.Bare("new")); err != nil {
		t.Fatal(err)
	}
	if left := list(); len(left) != 1 || time.Since(left[0].Used).Abs() > time.Minute {
		t.Errorf("%+v", left)
	}
}

// TestUpgrade opens a database of version 1, twice at once.
func TestUpgrade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "store.sqlite")
	old := mustOpen(t, file)
	if _, err := old.PathInfos().Put(context.Background(), pathinfotest.Full("x")); err != nil {
		t.Fatal(err)
	}
	for _, q := range []string{"ALTER TABLE directory DROP COLUMN used", "ALTER TABLE path_info DROP COLUMN used", "PRAGMA user_version = 1"} {
		old.mustExec(t, q)
	}
	old.Close()
	errs := make(chan error, 4)
	for range cap(errs) {
		go func() {
			db, err := Open(file)
			if err == nil {
				_, err = db.PathInfos().Put(context.Background(), pathinfotest.Full("y"))
				err = errors.Join(err, db.Close())
			}
			errs <- err
		}()
	}
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	db := mustOpen(t, file)
	var version int
	if err := db.sql.QueryRow("PRAGMA user_version").Scan(&version); err != nil || version != schemaVersion {
		t.Errorf("version %d, %v", version, err)
	}
	used := map[bool]int{}
	for item, err := range db.PathInfos().(pathinfo.Sweeper).Items(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		used[item.Used.Unix() == 0]++
	}
	if used[true] != 1 || used[false] != 1 {
		t.Errorf("%v", used)
	}
}
