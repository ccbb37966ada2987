package uploads_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge/uploads"
)

var limits = uploads.Limits{Age: time.Hour, Rows: 500}

func upload(i int) uploads.Upload {
	b := []byte{byte(i), byte(i >> 8)}
	return uploads.Upload{
		FileSHA256: [32]byte{1, b[0], b[1]}, FileSize: uint64(i), NarSHA256: [32]byte{2, b[0], b[1]}, NarSize: uint64(i) + 1<<62,
		Node: castore.Node{Kind: castore.KindFile, Digest: castore.Digest{b[0]}, Size: 3, Executable: true},
	}
}

// TestTable puts rows and finds them by either hash, in a file also with another
// table of it that is open, and after it was closed.
func TestTable(t *testing.T) {
	for _, file := range []string{"", filepath.Join(t.TempDir(), "sub", "uploads.sqlite")} {
		table, err := uploads.Open(file, limits)
		if err != nil {
			t.Fatal(err)
		}
		u := upload(1)
		if err := table.Put(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		tables := []*uploads.Table{table}
		if file != "" {
			other, err := uploads.Open(file, limits)
			if err != nil {
				t.Fatal(err)
			}
			if err := table.Close(); err != nil {
				t.Fatal(err)
			}
			again, err := uploads.Open(file, limits)
			if err != nil {
				t.Fatal(err)
			}
			tables = []*uploads.Table{other, again}
		}
		for _, table := range tables {
			for _, get := range []func() (uploads.Upload, error){
				func() (uploads.Upload, error) { return table.ByFile(t.Context(), u.FileSHA256) },
				func() (uploads.Upload, error) { return table.ByNAR(t.Context(), u.NarSHA256) },
			} {
				got, err := get()
				if err != nil || time.Since(got.Used) > time.Minute {
					t.Fatalf("%+v, %v", got, err)
				}
				if got.Used = u.Used; got != u {
					t.Errorf("got %+v, want %+v", got, u)
				}
			}
			if _, err := table.ByFile(t.Context(), u.NarSHA256); !errors.Is(err, uploads.ErrNotFound) {
				t.Errorf("another hash: %v", err)
			}
		}
		if err := tables[0].Forget(t.Context(), u.NarSHA256); err != nil {
			t.Fatal(err)
		}
		if _, err := tables[0].ByFile(t.Context(), u.FileSHA256); !errors.Is(err, uploads.ErrNotFound) {
			t.Errorf("after Forget: %v", err)
		}
		for _, table := range tables {
			if err := table.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestLimits holds that there are no more rows than there may be, and that old
// ones are not found.
func TestLimits(t *testing.T) {
	table, err := uploads.Open("", limits)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	const n = 2048
	for i := range n {
		if err := table.Put(t.Context(), upload(i)); err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for i := range n {
		if _, err := table.ByFile(t.Context(), upload(i).FileSHA256); err == nil {
			found++
		}
	}
	if found != limits.Rows {
		t.Errorf("%d rows are left, want %d", found, limits.Rows)
	}
	past, err := uploads.Open("", uploads.Limits{Age: -time.Hour, Rows: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer past.Close()
	if err := past.Put(t.Context(), upload(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := past.ByNAR(t.Context(), upload(1).NarSHA256); !errors.Is(err, uploads.ErrNotFound) {
		t.Errorf("an old row: %v", err)
	}
}

// TestOpenAtOnce has many open and fill a file that is not there yet.
func TestOpenAtOnce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uploads.sqlite")
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			table, err := uploads.Open(file, limits)
			if err != nil {
				t.Error(err)
				return
			}
			defer table.Close()
			if err := table.Put(t.Context(), upload(i)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	table, err := uploads.Open(file, limits)
	if err != nil {
		t.Fatal(err)
	}
	defer table.Close()
	for i := range 16 {
		if _, err := table.ByFile(t.Context(), upload(i).FileSHA256); err != nil {
			t.Error(err)
		}
	}
}

func TestForeign(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database ", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := uploads.Open(file, limits); err == nil || !strings.Contains(err.Error(), "not a table of uploads") {
		t.Errorf("%v", err)
	}
}
