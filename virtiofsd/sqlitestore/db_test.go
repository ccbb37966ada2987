package sqlitestore

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func mustOpen(t testing.TB, file string) *DB {
	t.Helper()
	db, err := Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestDirectories(t *testing.T) {
	castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService {
		return mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite")).Directories()
	})
}

func TestPathInfos(t *testing.T) {
	pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service {
		return mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite")).PathInfos()
	})
}

// TestReopen holds that what was put is there in another process's view and
// after the file was closed, and that List goes over more than one page.
func TestReopen(t *testing.T) {
	ctx := context.Background()
	file := filepath.Join(t.TempDir(), "a dir/100%?x#y/store.sqlite") // bytes that mean something in addresses
	a, b := mustOpen(t, file), mustOpen(t, file)
	const n = 2*listPage + 3
	for i := range n {
		if _, err := a.PathInfos().Put(ctx, pathinfotest.Bare(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
	}
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "x", Node: castore.Node{Kind: castore.KindFile}})
	if _, err := castoretest.PutDirectories(a.Directories(), dir); err != nil {
		t.Fatal(err)
	}
	check := func(db *DB) {
		t.Helper()
		count := 0
		for _, err := range db.PathInfos().List(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			count++
		}
		if count != n {
			t.Errorf("%d path infos, want %d", count, n)
		}
		if _, err := db.Directories().Get(ctx, dir.Digest()); err != nil {
			t.Error(err)
		}
	}
	check(b)
	a.Close()
	b.Close()
	check(mustOpen(t, file))
	left, err := filepath.Glob(filepath.Dir(file) + "/*")
	if err != nil || len(left) == 0 {
		t.Fatal(left, err)
	}
	for _, path := range left {
		if !strings.HasPrefix(filepath.Base(path), "store.sqlite") || strings.Contains(path, ".new") {
			t.Errorf("%s was left", path)
		}
	}
}

func TestPragmas(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite"))
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "busy_timeout": fmt.Sprint(busyTimeout)} {
		var got string
		if err := db.sql.QueryRow("PRAGMA " + pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", pragma, got, err, want)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	edit := func(name string, statements ...string) string {
		path := filepath.Join(dir, name)
		pool, err := sql.Open("sqlite", "file:"+path)
		if err != nil {
			t.Fatal(err)
		}
		defer pool.Close()
		for _, s := range statements {
			if _, err := pool.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
		return path
	}
	mustOpen(t, filepath.Join(dir, "newer.sqlite")).Close()
	for _, tt := range []struct{ name, path, err string }{
		{"not a database", write("text", strings.Repeat("no database\n", 1000)), "not a storeboot database"},
		{"empty file", write("empty", ""), "not a storeboot database"},
		{"another program's", edit("other.sqlite", "CREATE TABLE x (y)"), "not a storeboot database"},
		{"newer", edit("newer.sqlite", "PRAGMA user_version = 3"), "version 3"},
		{"directory", dir, dir},
		{"below a file", filepath.Join(dir, "text/store.sqlite"), "not a directory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before, _ := os.ReadFile(tt.path)
			db, err := Open(tt.path)
			if err == nil {
				db.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), tt.path) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if after, _ := os.ReadFile(tt.path); !bytes.Equal(before, after) {
				t.Error("the file was changed")
			}
		})
	}
}

// TestDamage holds that rows that are not what their keys say are refused.
func TestDamage(t *testing.T) {
	ctx := context.Background()
	db := mustOpen(t, filepath.Join(t.TempDir(), "store.sqlite"))
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "x", Node: castore.Node{Kind: castore.KindFile}})
	info, err := pathinfotest.Bare("x").Encode()
	if err != nil {
		t.Fatal(err)
	}
	other := pathinfotest.Path("y").Hash
	key := castore.Digest{1}
	for _, row := range []struct {
		query      string
		key, value []byte
	}{
		{"INSERT INTO directory (digest, encoded) VALUES (?, ?)", key[:], dir.Encoded()},
		{"INSERT INTO path_info (hash, encoded) VALUES (?, ?)", other[:], info},
	} {
		if _, err := db.sql.Exec(row.query, row.key, row.value); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.Directories().Get(ctx, key); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Get of a directory: %v", err)
	}
	if _, err := db.PathInfos().Get(ctx, other); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Get of a path info: %v", err)
	}
	for _, err := range db.PathInfos().List(ctx) {
		if err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("List: %v", err)
		}
	}
}

const childEnv = "STOREBOOT_TEST_SQLITESTORE"

// TestProcesses has several processes make, open and write one file at once.
func TestProcesses(t *testing.T) {
	if file := os.Getenv(childEnv); file != "" {
		db := mustOpen(t, file)
		for i := range 20 {
			if _, err := db.PathInfos().Put(context.Background(), pathinfotest.Full(fmt.Sprint("p", i))); err != nil {
				t.Fatal(err)
			}
		}
		return
	}
	file := filepath.Join(t.TempDir(), "new/store.sqlite")
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			child := exec.Command(os.Args[0], "-test.run=^TestProcesses$", "-test.count=1")
			child.Env = append(os.Environ(), childEnv+"="+file)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
	wg.Wait()
	count := 0
	for _, err := range mustOpen(t, file).PathInfos().List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 20 {
		t.Errorf("%d path infos, want 20", count)
	}
}
