package kbuild

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/internal/kconfig"
)

// writeTree writes files by name below dir.
func writeTree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEvaluate(t *testing.T) {
	c, err := kconfig.Parse(strings.NewReader("CONFIG_Y=y\nCONFIG_M=m\nCONFIG_S=\"x\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ condition, blame string }{
		{"Y", ""}, {"M", ""}, {"N", "N is off"}, {"!N", ""}, {"!Y", "Y is on"},
		{"Y && N", "N is off"}, {"N || Y", ""}, {"N || O", "N is off, O is off"},
		{"(Y && (N || M)) && !(N)", ""}, {"Y=y", ""}, {"M=y", "M=y does not hold"}, {"M!=y", ""},
		{"$(cc-option,-x) && !$(x) && N", "N is off"}, {"GCC_VERSION >= 90000 || N", ""},
	} {
		met, blame := evaluate(tt.condition, c)
		if got := strings.Join(blame, ", "); got != tt.blame || met != (tt.blame == "") {
			t.Errorf("%q: %v, %q, want %q", tt.condition, met, got, tt.blame)
		}
	}
}

func FuzzEvaluate(f *testing.F) {
	f.Add("(A && !B) || C=y")
	f.Add("((((")
	f.Add("")
	c, err := kconfig.Parse(strings.NewReader("CONFIG_A=y\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, condition string) { evaluate(condition, c) })
}

func TestExplain(t *testing.T) {
	dir := t.TempDir()
	writeTree(t, dir, map[string]string{
		"Kconfig": `mainmenu "x"
source "net/Kconfig"
source "arch/$(SRCARCH)/Kconfig"
osource "missing/Kconfig"
`,
		"net/Kconfig": `menuconfig NET
	bool "Networking"
	help
	  config FALSE is not an option, it stands in a help text.

	  if IN_HELP
if NET
config INET
	bool "TCP/IP"
	depends on A && \
		!B
menu "more"
	depends on C
config TUN
	tristate "tun" if EXPERT
config SELECTED
	bool
endmenu
config PLAIN
	bool "plain"
endif
config A
	bool "a"
config B
	bool "b"
config C
	bool "c"
config EXPERT
	bool "expert"
`,
		"arch/x86/Kconfig": "config PVH\n\tbool \"pvh\"\n",
		"arch/arm/Kconfig": "config PL011\n\tbool \"pl011\"\n",
	})
	s, err := readSymbols(dir, "x86")
	if err != nil {
		t.Fatal(err)
	}
	parse := func(text string) *kconfig.Config {
		c, err := kconfig.Parse(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tt := range []struct{ config, option, want string }{
		{"CONFIG_X=y\n", "INET", "it depends on A && !B (A is off) and on NET (NET is off)"},
		{"CONFIG_NET=y\nCONFIG_A=y\nCONFIG_B=y\n", "INET", "it depends on A && !B (B is on)"},
		{"CONFIG_NET=y\n", "TUN", "it depends on C (C is off) and on EXPERT (EXPERT is off)"},
		{"CONFIG_NET=y\nCONFIG_C=y\n", "SELECTED", "it cannot be chosen; other options select it"},
		{"CONFIG_NET=y\n", "PLAIN", "another option selects it, or its choice"},
		{"CONFIG_NET=y\n", "FALSE", "this kernel has no such option"},
		{"CONFIG_NET=y\n", "PL011", "this kernel has no such option"},
		{"CONFIG_NET=y\n", "PVH", "another option selects it, or its choice"},
	} {
		if got := s.explain(tt.option, parse(tt.config)); got != tt.want {
			t.Errorf("%s with %q: %q, want %q", tt.option, tt.config, got, tt.want)
		}
	}
	writeTree(t, dir, map[string]string{"arch/x86/Kconfig": `source "Kconfig"`})
	if _, err := readSymbols(dir, "x86"); err == nil || !strings.Contains(err.Error(), "too deep") {
		t.Errorf("a file that includes itself: %v", err)
	}
	if _, err := readSymbols(dir, "mips"); err == nil {
		t.Error("a missing file is no error")
	}
}
