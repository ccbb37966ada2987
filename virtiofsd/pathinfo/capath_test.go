package pathinfo_test

import (
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

func mustPath(t *testing.T, base string) storepath.StorePath {
	t.Helper()
	p, err := storepath.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestCheckCA holds the paths that Nix 2.8 gave a file "hi\n" called f, added in
// every way there is, and a text that refers to one of them.
func TestCheckCA(t *testing.T) {
	const nar = "fixed:r:sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h"
	hash, err := pathinfo.ParseCA(nar)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, ca, ref, err string }{
		{"4iv2qk4p0fgdjkgh7pi5nz6svn06vkgx-f", "fixed:sha512:2n0zm9j591idxv29lvrybrcrgncih9hfdrk2sj3i36cby9pkqwhc3j1j4xr7mhjq8x0979n5wxc1nihq84iclh48zwnas3k882vp2np", "", ""},
		{"6ln7cybb08i7x2pw35lqpvbj7bkf78km-f", "fixed:r:md5:0y7a1qbv5kxcyhm2p3dmx6nkhk", "", ""},
		{"ab3li50xq0nl4q5lxdyinb8w8y13my9s-f", nar, "", ""},
		{"hrbblgbxbvz8al5a8l85i8giajyajiwj-f", "fixed:sha256:1r3v22qkypccqifzbww5lrn6hf1chi23m6zzkyvb8bvg457nxslq", "", ""},
		{"miyzd4rdj1idrrzcmmlphhh8g1m3npgb-f", "fixed:sha1:fd540npwk7x370s4s2jzpx74wf365jjm", "", ""},
		{"rf1s4gss8k85i0nll5a20jx8in10k156-f", "fixed:r:sha1:kj2lgi6kqfap560mmnz4hw91732dbxgv", "", ""},
		{"xbimgry92d3nikdz6pinaw4mxg8wh29p-f", "fixed:md5:4yplxll7378zdi27ns7n4glkkn", "", ""},
		{"z8gvxqkj1glc9ga70wpaschf9c5hw3d7-f", "fixed:r:sha512:28z0zkd9vf0lpfdxx0wq0qj3852bj1x6d2jx73wknv7yighyzic0p3xsr1vwmc5zj0ismm9g3lqgczckyydyxrrifx1ljh4j5x44r1q", "", ""},
		{"w685qkxkwan16v6yma7bf17gs7fd4fzy-refers", "text:sha256:12y55lvxjv7lnlzirnxg49m0ikaass0dxyggb5yr4lm1dbkdy6kl", "ab3li50xq0nl4q5lxdyinb8w8y13my9s-f", ""},

		{"ab3li50xq0nl4q5lxdyinb8w8y13my9s-g", nar, "", "the path it makes is"},
		{"w685qkxkwan16v6yma7bf17gs7fd4fzy-refers", "text:sha256:12y55lvxjv7lnlzirnxg49m0ikaass0dxyggb5yr4lm1dbkdy6kl", "", "the path it makes is"},
		{"miyzd4rdj1idrrzcmmlphhh8g1m3npgb-f", "fixed:sha1:fd540npwk7x370s4s2jzpx74wf365jjm", "ab3li50xq0nl4q5lxdyinb8w8y13my9s-f", "can have references"},
	} {
		ca, err := pathinfo.ParseCA(tt.ca)
		if err != nil {
			t.Fatal(err)
		}
		p := &pathinfo.PathInfo{StorePath: mustPath(t, tt.path), CA: ca, NarSHA256: [32]byte(hash.Digest)}
		if tt.ref != "" {
			p.References = []storepath.StorePath{mustPath(t, tt.ref)}
		}
		err = p.CheckCA()
		if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
			t.Errorf("%s %s: error %v, want %q", tt.path, tt.ca, err, tt.err)
		}
	}
	other := &pathinfo.PathInfo{StorePath: mustPath(t, "ab3li50xq0nl4q5lxdyinb8w8y13my9s-f"), CA: hash}
	if err := other.CheckCA(); err == nil || !strings.Contains(err.Error(), "not the hash of the NAR") {
		t.Errorf("another NAR: %v", err)
	}
}

func TestPublicKeys(t *testing.T) {
	secret, err := pathinfo.ParseSecretKey(testKeyText())
	if err != nil {
		t.Fatal(err)
	}
	keys, err := pathinfo.ParsePublicKeys("\n other:" + strings.Repeat("A", 43) + "=  " + secret.Public() + "\n")
	if err != nil || len(keys) != 2 || keys[1].String() != secret.Public() || keys[1].Name() != testKeyName {
		t.Fatalf("keys %v, %v", keys, err)
	}
	p := &pathinfo.PathInfo{StorePath: mustPath(t, "ab3li50xq0nl4q5lxdyinb8w8y13my9s-f"), NarSize: 120}
	check := func(name, want string) {
		t.Helper()
		err := p.CheckSignature(keys)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", name, err, want)
		}
	}
	check("unsigned", "no signature at all")
	p.Signatures = []pathinfo.Signature{{Name: "stranger"}, secret.Sign("something else")}
	check("wrong", "those of stranger, "+testKeyName+" (which does not verify)")
	p.Signatures = append(p.Signatures, secret.Sign(p.Fingerprint()))
	check("signed", "")
	p.NarSize++
	check("changed since", "no signature by a trusted key")
	for in, want := range map[string]string{"x": "NAME:BASE64", ":AAAA": "not allowed", "a:!": "not base64", "a:AAAA": "3 bytes instead of 32", testKeyText(): "secret key"} {
		if _, err := pathinfo.ParsePublicKeys(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}
