package nixdb

import (
	"context"
	"database/sql"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/internal/storepath"
)

const (
	hashA = "0000000000000000000000000000000a"
	hashB = "0000000000000000000000000000000b"
	hashC = "0000000000000000000000000000000c"
	hashD = "0000000000000000000000000000000d"
)

func store(base string) string { return storepath.StoreDir + "/" + base }

func parsePath(t *testing.T, base string) storepath.StorePath {
	t.Helper()
	p, err := storepath.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// schema is that of Nix (schema 10), as 'sqlite3 db.sqlite .schema' prints it
// of a store of Nix 2.8, without the triggers.
const schema = `
CREATE TABLE ValidPaths (
    id integer primary key autoincrement not null, path text unique not null, hash text not null,
    registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
CREATE TABLE Refs (
    referrer integer not null, reference integer not null, primary key (referrer, reference),
    foreign key (referrer) references ValidPaths(id) on delete cascade,
    foreign key (reference) references ValidPaths(id) on delete restrict);
`

const hexHash = "097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"

// newRoot makes a Nix store's database below a new directory.
func newRoot(t *testing.T, statements ...string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "nix/var/nix/db")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	pool, err := sql.Open("sqlite", "file:"+dir+"/db.sqlite")
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	for _, s := range append([]string{schema}, statements...) {
		if _, err := pool.Exec(s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
	return root
}

func TestClosure(t *testing.T) {
	sig := "cache-1:" + strings.Repeat("A", 86) + "=="
	row := func(id, base, hash, deriver, sigs, ca string) string {
		return "INSERT INTO ValidPaths VALUES (" + id + ", '" + store(base) + "', '" + hash + "', 1, " + deriver + ", 136, NULL, " + sigs + ", " + ca + ")"
	}
	root := newRoot(t,
		row("1", hashA+"-a", "sha256:"+hexHash, "'"+store(hashD+"-a.drv")+"'", "'"+sig+" "+strings.Replace(sig, "cache", "other", 1)+"'", "NULL"),
		row("2", hashB+"-b", "sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89", "NULL", "''", "'fixed:r:sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89'"),
		row("3", hashC+"-c", "sha256:"+hexHash, "''", "NULL", "''"),
		row("4", hashD+"-alone", "sha256:"+hexHash, "NULL", "NULL", "NULL"),
		// a -> c, a; c -> b, c; b -> b
		"INSERT INTO Refs VALUES (1, 3), (1, 1), (3, 2), (3, 3), (2, 2)",
	)
	db, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	a, b, c, d := parsePath(t, hashA+"-a"), parsePath(t, hashB+"-b"), parsePath(t, hashC+"-c"), parsePath(t, hashD+"-alone")
	for _, tt := range []struct{ roots, want []storepath.StorePath }{
		{nil, nil},
		{[]storepath.StorePath{a}, []storepath.StorePath{b, c, a}},
		{[]storepath.StorePath{b, a, a}, []storepath.StorePath{b, c, a}},
		{[]storepath.StorePath{d, c}, []storepath.StorePath{d, b, c}},
	} {
		closure, err := db.Closure(context.Background(), tt.roots)
		if err != nil {
			t.Fatal(err)
		}
		var got []storepath.StorePath
		for _, v := range closure {
			got = append(got, v.StorePath)
			if hex.EncodeToString(v.NarSHA256[:]) != hexHash || v.NarSize != 136 {
				t.Errorf("%s: %x, %d", v.StorePath, v.NarSHA256, v.NarSize)
			}
		}
		if len(got) != len(tt.want) {
			t.Fatalf("closure of %v is %v, want %v", tt.roots, got, tt.want)
		}
		for i := range got {
			if got[i] != tt.want[i] {
				t.Errorf("closure of %v is %v, want %v", tt.roots, got, tt.want)
			}
		}
	}
	closure, err := db.Closure(context.Background(), []storepath.StorePath{a, b})
	if err != nil {
		t.Fatal(err)
	}
	ofB, ofA := closure[0], closure[2]
	if len(ofA.References) != 2 || ofA.References[0] != a || ofA.References[1] != c {
		t.Errorf("references of a: %v", ofA.References)
	}
	if ofA.Deriver == nil || ofA.Deriver.String() != hashD+"-a" || len(ofA.Signatures) != 2 || ofA.Signatures[0].String() != sig || ofA.CA != nil {
		t.Errorf("a: %+v", ofA)
	}
	if ofB.Deriver != nil || len(ofB.Signatures) != 0 || ofB.CA == nil || hex.EncodeToString(ofB.CA.Digest) != hexHash {
		t.Errorf("b: %+v", ofB)
	}
	if want := root + store(hashA+"-a"); db.RealPath(a) != want {
		t.Errorf("RealPath = %s, want %s", db.RealPath(a), want)
	}
	none := parsePath(t, hashA+"-none")
	if _, err := db.Closure(context.Background(), []storepath.StorePath{a, none}); err == nil || !strings.Contains(err.Error(), none.Absolute()+" is not a valid path") {
		t.Errorf("closure of a path that is not valid: %v", err)
	}
}

func TestRefuses(t *testing.T) {
	row := func(hash, deriver, sigs, ca string) string {
		return "INSERT INTO ValidPaths VALUES (1, '" + store(hashA+"-a") + "', '" + hash + "', 1, '" + deriver + "', 136, NULL, '" + sigs + "', '" + ca + "')"
	}
	for _, tt := range []struct{ name, row, err string }{
		{"hash of another kind", row("sha1:00", "", "", ""), "not a SHA-256"},
		{"short hash", row("sha256:00", "", "", ""), "not a SHA-256"},
		{"hash of no digits", row("sha256:"+strings.Repeat("x", 64), "", "", ""), "not a SHA-256"},
		{"deriver", row("sha256:"+hexHash, "/tmp/x.drv", "", ""), "deriver"},
		{"signature", row("sha256:"+hexHash, "", "x", ""), "signature"},
		{"content address", row("sha256:"+hexHash, "", "", "fixed:x"), "content address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db, err := Open(newRoot(t, tt.row))
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			a := parsePath(t, hashA+"-a")
			if _, err := db.Closure(context.Background(), []storepath.StorePath{a}); err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), a.Absolute()) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	if _, err := Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "no Nix store is here") {
		t.Errorf("Open where there is none: %v", err)
	}
	root := newRoot(t)
	t.Setenv("NIX_STATE_DIR", filepath.Join(root, "nix/var/nix"))
	db, err := Open("")
	if err != nil {
		t.Fatalf("Open with NIX_STATE_DIR: %v", err)
	}
	db.Close()
	file := filepath.Join(root, "nix/var/nix/db/db.sqlite")
	if err := os.WriteFile(file, []byte(strings.Repeat("no database\n", 100)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(""); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("Open of no database: %v", err)
	}
}
