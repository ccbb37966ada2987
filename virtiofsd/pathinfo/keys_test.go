package pathinfo_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

const testKeyName = "test.example_1"

// testKeyText is a secret key whose seed is all sevens.
func testKeyText() string {
	key := ed25519.NewKeyFromSeed([]byte(strings.Repeat("\x07", ed25519.SeedSize)))
	return testKeyName + ":" + base64.StdEncoding.EncodeToString(key)
}

func TestParseSecretKey(t *testing.T) {
	_, b64, _ := strings.Cut(testKeyText(), ":")
	raw, err := base64.StdEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	for _, tt := range []struct{ name, in, err string }{
		{"good", testKeyText(), ""},
		{"no colon", b64, "NAME:BASE64"},
		{"empty", "", "NAME:BASE64"},
		{"no name", ":" + b64, "not allowed"},
		{"name with a space", "a b:" + b64, "not allowed"},
		{"public key", "k:" + encode(raw[32:]), "public key"},
		{"short", "k:" + encode(raw[:63]), "63 bytes instead of 64"},
		{"not base64", "k:!" + b64[1:], "not base64"},
		{"halves of two keys", "k:" + encode(slices.Concat(raw[:63], []byte{raw[63] ^ 1})), "does not belong"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := pathinfo.ParseSecretKey(tt.in)
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if err != nil && strings.Contains(err.Error(), b64[8:24]) {
				t.Errorf("the error shows the key: %v", err)
			}
		})
	}
}

func TestReadSecretKey(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "key")
	for _, tt := range []struct{ name, text, err string }{
		{"with a line break", testKeyText() + "\n", ""},
		{"too long", strings.Repeat("x", 5000), "longer than"},
		{"not a key", "hello", file},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := pathinfo.ReadSecretKey(file)
		if tt.err == "" && (err != nil || k.Name() != testKeyName) || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s: key %q, error %v, want %q", tt.name, k.Name(), err, tt.err)
		}
	}
	if _, err := pathinfo.ReadSecretKey(dir + "/none"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("missing file: %v", err)
	}
}

func TestFingerprint(t *testing.T) {
	p := pathinfotest.Full("x")
	p.NarSize = 7
	a, x, z := pathinfotest.Path("a").Absolute(), pathinfotest.Path("x").Absolute(), pathinfotest.Path("z").Absolute()
	refs := []string{a, x, z} // Full has z twice and in no order
	slices.Sort(refs)
	got := strings.Split(p.Fingerprint(), ";")
	if len(got) != 5 || got[0] != "1" || got[1] != x || len(got[2]) != len("sha256:")+52 || got[3] != "7" || got[4] != strings.Join(refs, ",") {
		t.Errorf("fingerprint %q", got)
	}
}
