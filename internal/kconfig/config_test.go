package kconfig

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const text = "# comment\n\nCONFIG_A=y\nCONFIG_B=m\r\n# CONFIG_C is not set\nCONFIG_D=\"a b\"\nCONFIG_E=0x10\nCONFIG_A=m\n# CONFIG_lower is not set any more\n"
	c, err := Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Value{"A": Module, "B": Module, "C": No, "D": `"a b"`, "E": "0x10", "F": No} {
		if got := c.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if c.Len() != 5 {
		t.Errorf("%d options, want 5", c.Len())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("CONFIG_A=y\n# CONFIG_B is not set\n")
	f.Add("CONFIG_A\n")
	f.Add("CONFIG_=y\n")
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(strings.NewReader(s))
		if err == nil && c.Len() == 0 {
			t.Fatal("no option and no error")
		}
	})
}
