package storepath

import (
	"encoding/hex"
	"strings"
	"testing"
)

// The vectors are those of spec/store.md 8, NAR.
func TestFromNARHash(t *testing.T) {
	for nar, want := range map[string]string{
		"097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1": "/nix/store/f1dbqnj508kha3429mvy2h6dwcqbr31v-test",
		"03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040": "/nix/store/7nn1mg7sbg5c7rs9nzcfks9almxk6m5x-test",
		"3b63b97bae149b3e6650437b9077c3d75b130192145792ec94ea3af96a8c567a": "/nix/store/dc8jqkd5jqk5iq05av9ljm4d3fgmp37x-test",
		"ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a": "/nix/store/4jagc832b703jlcbarhzgf6m4yxp3hj1-test",
	} {
		raw, err := hex.DecodeString(nar)
		if err != nil {
			t.Fatal(err)
		}
		p, err := FromNARHash("test", [32]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if p.Absolute() != want {
			t.Errorf("NAR %s: got %s, want %s", nar, p.Absolute(), want)
		}
	}
}

func TestParseAbsolute(t *testing.T) {
	const base = "f1dbqnj508kha3429mvy2h6dwcqbr31v-hello-2.12.1"
	tests := []struct{ in, path, sub, err string }{
		{"/nix/store/" + base, base, "", ""},
		{"/nix/store/" + base + "/", base, "", ""},
		{"/nix/store/" + base + "/bin/hello", base, "bin/hello", ""},
		{"/usr/bin/hello", "", "", "not below /nix/store"},
		{"/nix/store/hello", "", "", "not of the form"},
		{"/nix/store/f1dbqnj508kha3429mvy2h6dwcqbr31v", "", "", "not of the form"},
		{"/nix/store/e1dbqnj508kha3429mvy2h6dwcqbr31v-x", "", "", "not in Nix alphabet"},
		{"/nix/store/f1dbqnj508kha3429mvy2h6dwcqbr31v-a b", "", "", "not allowed in a name"},
		{"/nix/store/f1dbqnj508kha3429mvy2h6dwcqbr31v-" + strings.Repeat("a", 212), "", "", "longer than 211"},
	}
	for _, tt := range tests {
		p, sub, err := ParseAbsolute(tt.in)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%s: error %v, want %q", tt.in, err, tt.err)
			}
			continue
		}
		if err != nil || p.String() != tt.path || sub != tt.sub {
			t.Errorf("%s: got %v %q %v", tt.in, p, sub, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("f1dbqnj508kha3429mvy2h6dwcqbr31v-hello-2.12.1")
	f.Add("f1dbqnj508kha3429mvy2h6dwcqbr31v-")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Parse(s)
		if err == nil && p.String() != s {
			t.Fatalf("Parse(%q).String() = %q", s, p.String())
		}
	})
}
