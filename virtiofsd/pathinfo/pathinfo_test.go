package pathinfo_test

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func TestMemory(t *testing.T) {
	pathinfotest.TestService(t, func(*testing.T) pathinfo.Service { return pathinfo.NewMemory() })
}

func TestEncodeByHand(t *testing.T) {
	p := &pathinfo.PathInfo{
		StorePath:  storepath.StorePath{Name: "n"},
		Node:       castore.Node{Kind: castore.KindSymlink, Target: "t"},
		References: []storepath.StorePath{{Name: "r"}},
		NarSize:    300,
		Signatures: []pathinfo.Signature{{Name: "k"}},
		Deriver:    &storepath.StorePath{Name: "d"},
		CA:         &pathinfo.CA{Type: pathinfo.CATextSHA256, Digest: make([]byte, 32)},
	}
	zeros := func(n int) string { return strings.Repeat("00", n) }
	base := strings.Repeat("30", 32) + "2d"                     // 32 times 0, and a dash
	want := "0a29" + "1a27" + "0a22" + base + "6e" + "120174" + // node
		"1214" + zeros(20) + // reference
		"1ad101" + // NARInfo
		"08ac02" + "1220" + zeros(32) + // size, hash
		"1a45" + "0a016b" + "1240" + zeros(64) + // signature
		"2222" + base + "72" + // reference name
		"2a19" + "0a0164" + "1214" + zeros(20) + // deriver
		"3224" + "0804" + "1220" + zeros(32) // ca
	got, err := p.Encode()
	if err != nil || hex.EncodeToString(got) != want {
		t.Errorf("got  %x, %v\nwant %s", got, err, want)
	}
	if back, err := pathinfo.Parse(got); err != nil || !reflect.DeepEqual(back, p) {
		t.Errorf("Parse = %+v, %v", back, err)
	}
}

func TestCheckRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*pathinfo.PathInfo)
		err    string
	}{
		{"name", func(p *pathinfo.PathInfo) { p.StorePath.Name = "a b" }, "not allowed in a name"},
		{"no node", func(p *pathinfo.PathInfo) { p.Node = castore.Node{} }, "unknown kind"},
		{"symlink without target", func(p *pathinfo.PathInfo) { p.Node = castore.Node{Kind: castore.KindSymlink} }, "empty target"},
		{"reference", func(p *pathinfo.PathInfo) { p.References[1].Name = "" }, "empty name"},
		{"deriver", func(p *pathinfo.PathInfo) { p.Deriver.Name = "/" }, "not allowed in a name"},
		{"signature without key", func(p *pathinfo.PathInfo) { p.Signatures[0].Name = "" }, "without the name"},
		{"signature with colon", func(p *pathinfo.PathInfo) { p.Signatures[0].Name = "a:b" }, "not allowed"},
		{"signature with line break", func(p *pathinfo.PathInfo) { p.Signatures[0].Name = "a\nCA: x" }, "not allowed"},
		{"CA of unknown type", func(p *pathinfo.PathInfo) { p.CA.Type = 9 }, "unknown type"},
		{"CA of another length", func(p *pathinfo.PathInfo) { p.CA.Type = pathinfo.CAFlatSHA1 }, "16 bytes instead of 20"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := pathinfotest.Full("x")
			tt.change(p)
			if _, err := p.Encode(); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
	for _, drv := range []string{"x", "x.drv"} { // nested derivations end in .drv
		p := pathinfotest.Full("x")
		p.Deriver.Name = drv
		if err := p.Check(); err != nil {
			t.Error(err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("00", n) }
	base := strings.Repeat("30", 32) + "2d"
	node := "0a29" + "1a27" + "0a22" + base + "6e" + "120174"
	hash := "1220" + zeros(32)
	for _, tt := range []struct{ name, hex, err string }{
		{"empty", "", "no root node"},
		{"no NAR info", node, "no NAR info"},
		{"no NAR hash", node + "1a00", "no NAR hash"},
		{"short NAR hash", node + "1a21" + "121f" + zeros(31), "31 bytes"},
		{"no node", "1a22" + hash, "no root node"},
		{"node without name", "0a05" + "1a03" + "120174" + "1a22" + hash, "not of the form"},
		{"unknown field", node + "1a22" + hash + "2200", "unknown field 4"},
		{"unknown field in the NAR info", node + "1a24" + hash + "3a00", "unknown field 7"},
		{"reference without name", node + "1214" + zeros(20) + "1a22" + hash, "1 references with 0 names"},
		{"name without reference", node + "1a46" + hash + "2222" + base + "72", "0 references with 1 names"},
		{"reference of another hash", node + "1214" + zeros(19) + "01" + "1a46" + hash + "2222" + base + "72", "does not have the hash"},
		{"short reference", node + "1213" + zeros(19) + "1a46" + hash + "2222" + base + "72", "does not have the hash"},
		{"short signature", node + "1a67" + hash + "1a43" + "0a016b" + "123e" + zeros(62), "62 bytes"},
		{"short deriver", node + "1a3a" + hash + "2a16" + "0a0164" + "1211" + zeros(17), "17 bytes"},
		{"explicit CA type 0", node + "1a48" + hash + "3224" + "0800" + hash, "canonical"},
		{"unknown CA type", node + "1a48" + hash + "3224" + "0809" + hash, "unknown type 9"},
		{"explicit size 0", node + "1a24" + "0800" + hash, "canonical"},
		{"fields out of order", "1a22" + hash + node, "canonical"},
		{"two NAR infos", node + "1a22" + hash + "1a22" + hash, "canonical"},
		{"cut short", node + "1a22" + hash[:30], "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := hex.DecodeString(tt.hex)
			if err != nil {
				t.Fatal(err)
			}
			if p, err := pathinfo.Parse(raw); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, error %v, want %q", p, err, tt.err)
			}
		})
	}
}

func TestCA(t *testing.T) {
	for _, s := range []string{
		"fixed:r:sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89",
		"fixed:sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89",
		"text:sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89",
		"fixed:r:sha1:" + strings.Repeat("0", 32),
		"fixed:r:md5:" + strings.Repeat("0", 26),
		"fixed:sha512:" + strings.Repeat("0", 103),
	} {
		ca, err := pathinfo.ParseCA(s)
		if err != nil || ca.String() != s {
			t.Errorf("ParseCA(%q) = %v, %v", s, ca, err)
		}
	}
	inHex, err := pathinfo.ParseCA("fixed:r:sha256:097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1")
	if err != nil || inHex.String() != "fixed:r:sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89" {
		t.Errorf("%v, %v", inHex, err)
	}
	for _, s := range []string{"", "fixed", "fixed:git:sha1:" + strings.Repeat("0", 32), "text:md5:" + strings.Repeat("0", 26), "fixed:sha256:x", "fixed:sha256:" + strings.Repeat("0", 26)} {
		if ca, err := pathinfo.ParseCA(s); err == nil {
			t.Errorf("ParseCA(%q) = %v", s, ca)
		}
	}
}

func TestSignature(t *testing.T) {
	s := "cache.nixos.org-1:" + strings.Repeat("A", 86) + "=="
	sig, err := pathinfo.ParseSignature(s)
	if err != nil || sig.String() != s || sig.Name != "cache.nixos.org-1" {
		t.Errorf("%v, %v", sig, err)
	}
	for _, s := range []string{"", "name", ":" + strings.Repeat("A", 86) + "==", "name:AAAA", "name:?"} {
		if sig, err := pathinfo.ParseSignature(s); err == nil {
			t.Errorf("ParseSignature(%q) = %v", s, sig)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, p := range []*pathinfo.PathInfo{pathinfotest.Full("full"), pathinfotest.Bare("bare")} {
		b, err := p.Encode()
		if err != nil {
			f.Fatal(err)
		}
		if _, err := pathinfo.Parse(b); err != nil {
			f.Fatalf("a seed does not reach the end of the parser: %v", err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := pathinfo.Parse(b)
		if err != nil {
			return
		}
		if again, err := p.Encode(); err != nil || string(again) != string(b) {
			t.Fatalf("accepted %x and encodes it as %x, %v", b, again, err)
		}
	})
}
