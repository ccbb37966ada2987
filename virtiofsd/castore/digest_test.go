package castore

import (
	"strings"
	"testing"
)

func TestParseDigest(t *testing.T) {
	const empty = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
	const b64 = "rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI="
	for _, s := range []string{empty, strings.ToUpper(empty), "blake3-" + b64, "b3:" + b64} {
		d, err := ParseDigest(s)
		if err != nil || d != EmptyBlob {
			t.Errorf("ParseDigest(%q) = %v, %v", s, d, err)
		}
	}
	if EmptyBlob.String() != "blake3-"+b64 || EmptyBlob.Hex() != empty {
		t.Errorf("the empty blob is %s, %s", EmptyBlob, EmptyBlob.Hex())
	}
	for _, s := range []string{"", empty[1:], empty + "00", "blake3-" + b64[1:], "blake3-" + strings.TrimRight(b64, "="), "b3-" + b64, "blake3-", "blake3-\n" + b64, "x" + empty[1:],
		"blake3-rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmJ="} { // the last: bits after the digest are not zero
		if d, err := ParseDigest(s); err == nil {
			t.Errorf("ParseDigest(%q) = %v", s, d)
		}
	}
}

func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{EmptyBlob.String(), EmptyBlob.Hex(), "b3:" + strings.TrimPrefix(EmptyBlob.String(), "blake3-")} {
		if _, err := ParseDigest(s); err != nil {
			f.Fatal(err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDigest(s)
		if err != nil {
			return
		}
		for _, again := range []string{d.String(), d.Hex()} {
			if back, err := ParseDigest(again); err != nil || back != d {
				t.Fatalf("ParseDigest(%q) = %v, %v", again, back, err)
			}
		}
	})
}
