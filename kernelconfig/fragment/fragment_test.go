package fragment

import (
	"strings"
	"testing"

	"storeboot/internal/kconfig"
)

func TestTables(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range All() {
		for _, include := range f.Includes {
			if !seen[include] {
				t.Errorf("%s includes %s, which does not stand before it", f.Name, include)
			}
		}
		seen[f.Name] = true
		here := map[string]bool{}
		for _, o := range f.Options {
			key := o.Name + string(o.Arch)
			if here[key] || here[o.Name] {
				t.Errorf("%s names %s twice", f.Name, o.Name)
			}
			here[key] = true
			if o.Why == "" || strings.HasPrefix(o.Name, "CONFIG_") || strings.ToUpper(o.Name) != o.Name {
				t.Errorf("%s: option %+v", f.Name, o)
			}
		}
	}
}

// TestGetAgrees holds that fragments do not contradict each other, so that any
// of them can be joined.
func TestGetAgrees(t *testing.T) {
	for _, arch := range []Arch{AMD64, ARM64} {
		values := map[string]kconfig.Value{}
		for _, f := range All() {
			for _, o := range f.Options {
				if v, ok := values[o.Name]; ok && v != o.Want() {
					t.Errorf("%s wants %s=%s, another fragment %s", f.Name, o.Name, o.Want(), v)
				}
				values[o.Name] = o.Want()
			}
		}
		joined, err := Get(arch, Names()...)
		if err != nil {
			t.Fatal(err)
		}
		once := map[string]bool{}
		for _, o := range joined.Options {
			if once[o.Name] || o.Arch != "" && o.Arch != arch {
				t.Errorf("%s: %+v", arch, o)
			}
			once[o.Name] = true
		}
		c, err := kconfig.Parse(strings.NewReader(joined.Config()))
		if err != nil || c.Len() != len(joined.Options) {
			t.Fatalf("the fragment does not parse as what it is: %v, %v", c, err)
		}
		for _, f := range joined.Check(c) {
			if f.Status != BuiltIn {
				t.Errorf("the fragment does not pass its own check: %+v", f)
			}
		}
	}
}

func TestGet(t *testing.T) {
	f, err := Get(AMD64, "nixos")
	if err != nil || f.Name != "virtiofs+systemd+nixos" {
		t.Errorf("nixos is %s, %v", f.Name, err)
	}
	for _, o := range f.Options {
		if o.Name == "SECCOMP" && o.Need != Required {
			t.Error("systemd's wish for SECCOMP hides that NixOS requires it")
		}
	}
	if _, err := Get(AMD64, "nixso"); err == nil || !strings.Contains(err.Error(), "container, debug") {
		t.Errorf("unknown: %v", err)
	}
	if _, err := Get("mips"); err == nil {
		t.Error("mips is no architecture of guests")
	}
}
