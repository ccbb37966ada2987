package storecache

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

const testKeyName = "test.example_1"

// testKeyText is a secret key whose seed is all sevens.
func testKeyText() string {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("\x07", ed25519.SeedSize)))
	return testKeyName + ":" + base64.StdEncoding.EncodeToString(key)
}

func testKey(t *testing.T) pathinfo.SecretKey {
	t.Helper()
	k, err := pathinfo.ParseSecretKey(testKeyText())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSigning(t *testing.T) {
	ctx := context.Background()
	k := testKey(t)
	_, public, _ := strings.Cut(k.Public(), ":")
	raw, err := base64.StdEncoding.DecodeString(public)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSigning(pathinfo.NewMemory(), k)
	defer s.Close()
	p := pathinfotest.Full("x")
	for range 2 { // the second time it has the signature already
		if p, err = s.Put(ctx, p); err != nil {
			t.Fatal(err)
		}
		if len(p.Signatures) != 3 || !slices.Equal(p.Signatures[:2], pathinfotest.Full("x").Signatures) {
			t.Fatalf("signatures %v", p.Signatures)
		}
		sig := p.Signatures[2]
		if sig.Name != testKeyName || !ed25519.Verify(raw, []byte(p.Fingerprint()), sig.Data[:]) {
			t.Errorf("the signature %s is wrong", sig)
		}
	}
	bare, err := s.Put(ctx, pathinfotest.Bare("y"))
	if err != nil || len(bare.Signatures) != 0 {
		t.Errorf("without a NAR size: %v, %v", bare, err)
	}
}

// TestSigningAsNix compares our signature with the one that Nix makes with the
// same key of a path that refers to others.
func TestSigningAsNix(t *testing.T) {
	root, run := newNix(t)
	secret := filepath.Join(root, "secret")
	run("nix-store", "--generate-binary-cache-key", testKeyName, secret, filepath.Join(root, "public"))
	var refs []string
	for _, name := range []string{"one", "two", "three"} {
		file := filepath.Join(root, name)
		if err := os.WriteFile(file, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
		refs = append(refs, `${builtins.storePath "`+run("nix-store", "--add", file)+`"}`)
	}
	out := strings.Trim(run("nix-instantiate", "--eval", "--read-write-mode", "-E", `builtins.toFile "refers" "`+strings.Join(refs, " ")+`"`), `"`)
	run("nix", "store", "sign", "--key-file", secret, out)
	db, err := nixdb.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	path, _, err := storepath.ParseAbsolute(out)
	if err != nil {
		t.Fatal(err)
	}
	closure, err := db.Closure(context.Background(), []storepath.StorePath{path})
	if err != nil {
		t.Fatal(err)
	}
	v := closure[len(closure)-1]
	if len(v.References) != 3 || len(v.Signatures) != 1 {
		t.Fatalf("Nix has the references %v and the signatures %v", v.References, v.Signatures)
	}
	key, err := pathinfo.ReadSecretKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	p := pathinfotest.Bare("x")
	p.StorePath, p.NarSize, p.NarSHA256 = v.StorePath, v.NarSize, v.NarSHA256
	p.References = slices.Clone(v.References)
	slices.Reverse(p.References)
	if got := key.Sign(p.Fingerprint()); got != v.Signatures[0] {
		t.Errorf("signature %s, of Nix %s", got, v.Signatures[0])
	}
	if b, err := os.ReadFile(filepath.Join(root, "public")); err != nil || strings.TrimSpace(string(b)) != key.Public() {
		t.Errorf("public key %s, of Nix %s, %v", key.Public(), b, err)
	}
}
