package narinfo_test

import (
	"bytes"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narinfo"
)

// byNix is what Nix 2.8 writes into a binary cache.
const byNix = `StorePath: /nix/store/w685qkxkwan16v6yma7bf17gs7fd4fzy-refers
URL: nar/1878s5lcw2xyv0zlqrz5z80dqj03kswlyb3z2wl979wfzmf1wavv.nar.xz
Compression: xz
FileHash: sha256:1878s5lcw2xyv0zlqrz5z80dqj03kswlyb3z2wl979wfzmf1wavv
FileSize: 172
NarHash: sha256:0gjg0ni84prpg0zrgll4lad1sa0d51622q4qp703rsncq2kfd3j1
NarSize: 160
References: ab3li50xq0nl4q5lxdyinb8w8y13my9s-f
CA: text:sha256:12y55lvxjv7lnlzirnxg49m0ikaass0dxyggb5yr4lm1dbkdy6kl
`

// ofHello is a narinfo in the form of a public cache, with the lines that byNix
// lacks.
const ofHello = `StorePath: /nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello-2.12.1
URL: nar/09kxyd68d2nylk7ims23pj3i09s4nnv9p3dv6iij1q9canv42w6d.nar.zst
Compression: zstd
FileHash: sha256:09kxyd68d2nylk7ims23pj3i09s4nnv9p3dv6iij1q9canv42w6d
FileSize: 124
NarHash: sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h
NarSize: 120
References: 4iv2qk4p0fgdjkgh7pi5nz6svn06vkgx-f ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello-2.12.1
Deriver: z8gvxqkj1glc9ga70wpaschf9c5hw3d7-hello-2.12.1.drv
Sig: a.example-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
Sig: b.example-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
`

func TestMarshalReturnsWhatNixWrote(t *testing.T) {
	for _, text := range []string{byNix, ofHello} {
		n, err := narinfo.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := string(n.Marshal()); got != text {
			t.Errorf("got\n%swant\n%s", got, text)
		}
	}
}

// TestParseTakesWhatCachesWrite holds the leniency of spec/store.md 3.4.
func TestParseTakesWhatCachesWrite(t *testing.T) {
	want, err := narinfo.Parse([]byte(ofHello))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, old, new string }{
		{"hexadecimal hash", "sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h", "sha256:10551daed7fa467d0b58826e7eb9a0f2af7d693de319f2ef775fffcda244b9f6"},
		{"SRI hash", "sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h", "sha256-EFUdrtf6Rn0LWIJufrmg8q99aT3jGfLvd1//zaJEufY="},
		{"references in another order, twice", "References: 4iv2qk4p0fgdjkgh7pi5nz6svn06vkgx-f ", "References: ab3li50xq0nl4q5lxdyinb8w8y13my9s-hello-2.12.1 4iv2qk4p0fgdjkgh7pi5nz6svn06vkgx-f "},
		{"unknown key", "NarSize", "System: x86_64-linux\nNarSize"},
		{"CR LF", "\n", "\r\n"},
		{"empty line at the end", "", ""},
	} {
		text := strings.ReplaceAll(ofHello, tt.old, tt.new) + "\n"
		n, err := narinfo.Parse([]byte(text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if !bytes.Equal(n.Marshal(), want.Marshal()) {
			t.Errorf("%s: got\n%s", tt.name, n.Marshal())
		}
	}
	n, err := narinfo.Parse([]byte("StorePath: /nix/store/ab3li50xq0nl4q5lxdyinb8w8y13my9s-f\nURL: x\nNarHash: sha256:1xmr8jicvzszfzpz46g37mlpvbzjl2wpwvl2b05psipssyp1sm8h\nNarSize: 0\nDeriver: unknown-deriver\n"))
	if err != nil || n.Compression != "bzip2" || n.Deriver != nil || n.References != nil || n.FileHash != nil {
		t.Errorf("a short one: %+v, %v", n, err)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, old, new, err string }{
		{"no key", "URL: ", "URL ", "line 2 is not of the form"},
		{"twice", "NarSize: 120", "NarSize: 120\nNarSize: 121", "line 8: a second NarSize"},
		{"missing", "NarHash: ", "OtherHash: ", "no NarHash"},
		{"other store", "/nix/store/", "/gnu/store/", "not below"},
		{"below a path", "hello-2.12.1\nURL", "hello-2.12.1/bin\nURL", "below it"},
		{"traversal", "/nix/store/ab3", "/nix/store/../ab3", "HASH-NAME"},
		{"hash of another kind", "NarHash: sha256:", "NarHash: md5:", "sha256:HASH"},
		{"short hash", "sm8h\n", "sm8\n", "not 51"},
		{"negative size", "NarSize: 120", "NarSize: -1", "invalid syntax"},
		{"size over 63 bits", "NarSize: 120", "NarSize: 9223372036854775808", "out of range"},
		{"absolute reference", "References: ", "References: /nix/store/", "HASH-NAME"},
		{"deriver without .drv", ".drv", "", "does not end in .drv"},
		{"short signature", "AA==", "==", "line 10: Sig"},
		{"empty URL", "URL: nar/09kxyd68d2nylk7ims23pj3i09s4nnv9p3dv6iij1q9canv42w6d.nar.zst", "URL:", "empty"},
		{"unknown CA", "Deriver: z", "CA: git:1\nDeriver: z", "unknown kind"},
	} {
		_, err := narinfo.Parse([]byte(strings.ReplaceAll(ofHello, tt.old, tt.new)))
		if err == nil || !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", tt.name, err, tt.err)
		}
	}
	if _, err := narinfo.Parse(make([]byte, narinfo.MaxSize+1)); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("too long: %v", err)
	}
}

func TestCastoreURL(t *testing.T) {
	link := castore.Node{Kind: castore.KindSymlink, Target: "/nix/store/somewhereelse"}
	const want = "nar/snix-castore/GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ?narsize=136" // the node: spec/store.md 8
	if got := narinfo.CastoreURL(narinfo.SnixCastore, link, 136); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, u := range []string{want, "http://x:9000/a/b/" + want, strings.Replace(want, "snix", "tvix", 1)} {
		node, size, ok, err := narinfo.ParseCastoreURL(u)
		if node != link || size != 136 || !ok || err != nil {
			t.Errorf("%s: %v, %d, %v, %v", u, node, size, ok, err)
		}
	}
	for _, u := range []string{"nar/x.nar.xz", "nar/other-castore/GhoS?narsize=1", "", "http://[/nar/snix-castore/a"} {
		if _, _, ok, err := narinfo.ParseCastoreURL(u); ok || err != nil {
			t.Errorf("%q: %v, %v, want none", u, ok, err)
		}
	}
	for u, text := range map[string]string{
		"nar/snix-castore/GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ":            "narsize",
		"nar/snix-castore/GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ?narsize=-1": "narsize",
		"nar/snix-castore/!?narsize=1":                                       "base64",
		"nar/snix-castore/GhoS?narsize=1":                                    "parse entry",
		"nar/snix-castore/GgYKAWESAWI?narsize=1":                             "has a name",
		"nar/snix-castore/" + strings.Repeat("A", 6000) + "?narsize=1":       "longer than",
	} {
		if _, _, ok, err := narinfo.ParseCastoreURL(u); !ok || err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%.60s: %v, %v, want %q", u, ok, err, text)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(byNix))
	f.Add([]byte(ofHello))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := narinfo.Parse(text)
		if err != nil {
			return
		}
		again, err := narinfo.Parse(n.Marshal())
		if err != nil {
			t.Fatalf("our own text is refused: %v\n%s", err, n.Marshal())
		}
		if !bytes.Equal(n.Marshal(), again.Marshal()) {
			t.Errorf("parsed again it is\n%sinstead of\n%s", again.Marshal(), n.Marshal())
		}
	})
}

func FuzzParseCastoreURL(f *testing.F) {
	f.Add("nar/snix-castore/GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ?narsize=136")
	f.Add("nar/tvix-castore/CiQSID-VGhWv1Yb7MSHvTRPVgugRzg5afyHASX_YdJDp4jVaGAQ?narsize=840")
	f.Fuzz(func(t *testing.T, u string) {
		node, size, ok, err := narinfo.ParseCastoreURL(u)
		if !ok || err != nil {
			return
		}
		n, s, ok, err := narinfo.ParseCastoreURL(narinfo.CastoreURL(narinfo.SnixCastore, node, size))
		if n != node || s != size || !ok || err != nil {
			t.Errorf("%v %d became %v %d, %v", node, size, n, s, err)
		}
	})
}
