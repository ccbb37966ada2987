package bigtablestore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/bttest"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

// newTable starts an emulator with an empty table and returns the address.
func newTable(t testing.TB) string {
	t.Helper()
	server, err := bttest.NewServer("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	t.Setenv("BIGTABLE_EMULATOR_HOST", server.Addr)
	ctx := context.Background()
	admin, err := bigtable.NewAdminClient(ctx, "project", "instance")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CreateTable(ctx, "store"); err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateColumnFamily(ctx, "store", "cf.1"); err != nil {
		t.Fatal(err)
	}
	return "bigtable://instance?project_id=project&table_name=store&family_name=cf.1"
}

func openDirectories(t testing.TB, url string) castore.DirectoryService {
	t.Helper()
	s, err := OpenDirectories(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openPathInfos(t testing.TB, url string) pathinfo.Service {
	t.Helper()
	s, err := OpenPathInfos(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDirectories(t *testing.T) {
	castoretest.TestDirectories(t, func(t *testing.T) castore.DirectoryService { return openDirectories(t, newTable(t)) })
}

func TestPathInfos(t *testing.T) {
	pathinfotest.TestService(t, func(t *testing.T) pathinfo.Service { return openPathInfos(t, newTable(t)) })
}

// readRow reads the cells of a row as they are.
func readRow(t *testing.T, url, key string) []bigtable.ReadItem {
	t.Helper()
	tab, err := open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	r, err := tab.table.ReadRow(context.Background(), key)
	if err != nil {
		t.Fatal(err)
	}
	return r["cf.1"]
}

// TestRows holds the form of rows of spec/store.md 2.5: what snix reads. One
// table takes both kinds.
func TestRows(t *testing.T) {
	url := newTable(t)
	ctx := context.Background()
	dirs, infos := openDirectories(t, url), openPathInfos(t, url)
	defer dirs.Close()
	defer infos.Close()
	empty := castoretest.NewDirectory(t)
	keep := castoretest.NewDirectory(t, castore.Entry{Name: ".keep", Node: castore.Node{Kind: castore.KindFile, Digest: castore.EmptyBlob}})
	root := castoretest.NewDirectory(t, castoretest.Sub("empty", empty), castoretest.Sub("keep", keep))
	for range 2 {
		if _, err := castoretest.PutDirectories(dirs, empty, keep, root); err != nil {
			t.Fatal(err)
		}
	}
	p := pathinfotest.Full("p")
	for range 3 {
		if _, err := infos.Put(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	encoded, err := p.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ key, value string }{
		{"8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e", string(keep.Encoded())},
		{castore.EmptyBlob.Hex(), ""},
		{root.Digest().Hex(), string(root.Encoded())},
		{fmt.Sprintf("%x", p.StorePath.Hash[:]), string(encoded)},
	} {
		cells := readRow(t, url, tt.key)
		if len(cells) != 1 || cells[0].Column != "cf.1:"+tt.key || string(cells[0].Value) != tt.value {
			t.Errorf("row %s: cells %v", tt.key, cells)
		}
	}
	n := 0
	for got, err := range infos.List(ctx) {
		if err != nil || got.StorePath != p.StorePath {
			t.Errorf("List yields %v, %v", got, err)
		}
		n++
	}
	if n != 1 {
		t.Errorf("%d path infos are listed", n)
	}
}

// TestPages lists more than a page.
func TestPages(t *testing.T) {
	s := openPathInfos(t, newTable(t))
	defer s.Close()
	const n = 2*listPage + 3
	for i := range n {
		if _, err := s.Put(context.Background(), pathinfotest.Bare(fmt.Sprint("p", i))); err != nil {
			t.Fatal(err)
		}
	}
	count := 0
	for _, err := range s.List(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != n {
		t.Errorf("%d path infos are listed, of %d", count, n)
	}
}

// set writes a cell past the service.
func set(t *testing.T, url, key string, value []byte) {
	t.Helper()
	tab, err := open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer tab.Close()
	if err := tab.put(context.Background(), []row{{key, value}}); err != nil {
		t.Fatal(err)
	}
}

func TestDamage(t *testing.T) {
	url := newTable(t)
	ctx := context.Background()
	dirs, infos := openDirectories(t, url), openPathInfos(t, url)
	defer dirs.Close()
	defer infos.Close()
	dir := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	other := castore.Digest{1}
	set(t, url, other.Hex(), dir.Encoded())
	if got, err := dirs.Get(ctx, other); err == nil || errors.Is(err, castore.ErrNotFound) || !strings.Contains(err.Error(), other.String()) {
		t.Errorf("Get of another directory = %v, %v", got, err)
	}
	encoded, err := pathinfotest.Bare("p").Encode()
	if err != nil {
		t.Fatal(err)
	}
	q := pathinfotest.Path("q")
	set(t, url, key(q.Hash), encoded)
	if got, err := infos.Get(ctx, q.Hash); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("Get of another path info = %v, %v", got, err)
	}
	set(t, url, key(q.Hash), encoded[:len(encoded)-1])
	if got, err := infos.Get(ctx, q.Hash); err == nil {
		t.Errorf("Get of a cut path info = %v", got)
	}
	for got, err := range infos.List(ctx) {
		if err == nil {
			t.Errorf("List yields %v", got)
		}
	}
}

// TestByHeight holds the order of writes on which the promise of package doc
// rests.
func TestByHeight(t *testing.T) {
	a := castoretest.NewDirectory(t)
	b := castoretest.NewDirectory(t, castoretest.Sub("a", a))
	c := castoretest.NewDirectory(t, castoretest.Sub("b", b), castoretest.Sub("a", a))
	leaf := castoretest.NewDirectory(t, castore.Entry{Name: "l", Node: castore.Node{Kind: castore.KindSymlink, Target: "t"}})
	d := castoretest.NewDirectory(t, castoretest.Sub("leaf", leaf), castoretest.Sub("c", c))
	var rows []castore.DirectoryRow
	for _, dir := range []*castore.Directory{a, b, c, leaf, d} {
		rows = append(rows, castore.DirectoryRow{Digest: dir.Digest(), Encoded: dir.Encoded()})
	}
	levels, err := byHeight(rows)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, level := range levels {
		keys := ""
		for _, r := range level {
			for name, dir := range map[string]*castore.Directory{"a": a, "b": b, "c": c, "l": leaf, "d": d} {
				if r.key == dir.Digest().Hex() {
					keys += name
				}
			}
		}
		got = append(got, keys)
	}
	if want := "al b c d"; strings.Join(got, " ") != want {
		t.Errorf("levels %q, want %q", got, want)
	}
}

func TestReadOnly(t *testing.T) {
	url := newTable(t) + "&is_read_only=true"
	dirs, infos := openDirectories(t, url), openPathInfos(t, url)
	defer dirs.Close()
	defer infos.Close()
	if _, err := castoretest.PutDirectories(dirs, castoretest.NewDirectory(t)); err == nil || !strings.Contains(err.Error(), "is_read_only") {
		t.Errorf("put directories: %v", err)
	}
	if _, err := infos.Put(context.Background(), pathinfotest.Bare("p")); err == nil || !strings.Contains(err.Error(), "is_read_only") {
		t.Errorf("put path info: %v", err)
	}
}

func TestTooLarge(t *testing.T) {
	s := openPathInfos(t, newTable(t))
	defer s.Close()
	p := pathinfotest.Bare("p")
	for range maxValue / 50 {
		p.References = append(p.References, p.StorePath)
	}
	if _, err := s.Put(context.Background(), p); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("Put of a path info beyond the limit: %v", err)
	}
}

// TestFaults holds that a table that is missing and a server that does not
// answer are errors that say so, never "not found".
func TestFaults(t *testing.T) {
	url := newTable(t)
	absent := openPathInfos(t, strings.Replace(url, "table_name=store", "table_name=absent", 1))
	defer absent.Close()
	if _, err := absent.Get(context.Background(), pathinfotest.Path("p").Hash); err == nil || errors.Is(err, pathinfo.ErrNotFound) || !strings.Contains(err.Error(), "absent") {
		t.Errorf("Get from a table that does not exist: %v", err)
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	t.Setenv("BIGTABLE_EMULATOR_HOST", silent.Addr().String())
	dirs := openDirectories(t, url+"&timeout=0.2")
	defer dirs.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := dirs.Get(ctx, castore.Digest{1}); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "within 200ms") {
		t.Errorf("Get from a silent server: %v", err)
	}
	if _, err := castoretest.PutDirectories(dirs, castoretest.NewDirectory(t)); err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), "within 200ms") {
		t.Errorf("Put to a silent server: %v", err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := dirs.Get(canceled, castore.Digest{1}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled Get: %v", err)
	}
}
