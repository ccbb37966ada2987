package image

import (
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/mkinitrd/kmod"
	"storeboot/templates"
)

// TestGolden lists what the built-in templates put into an image, with a kernel
// that has all their modules, on a machine that has none of their programs: a
// change of the list is to be a decision. UPDATE_GOLDEN=1 go test writes them.
func TestGolden(t *testing.T) {
	for _, name := range templates.Builtins() {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.write("root/test", program(elf.EM_X86_64, elf.ET_EXEC, false))
			tmpl, err := templates.Builtin(name)
			if err != nil {
				t.Fatal(err)
			}
			if len(tmpl.Parameters) > 0 {
				if tmpl, err = templates.Load(name, map[string]string{"binary": "/test"}); err != nil {
					t.Fatal(err)
				}
			}
			dep := ""
			for _, m := range tmpl.Modules {
				dep += "kernel/" + m.Name + ".ko:\n"
				w.write("modules/kernel/"+m.Name+".ko", []byte("\x7fELF"+m.Name))
			}
			w.write("modules/modules.dep", []byte(dep))
			index, err := kmod.Open(w.path("modules"))
			if err != nil {
				t.Fatal(err)
			}
			b := Builder{
				Template: tmpl, Init: w.path("init"), Programs: map[string]string{"sh": w.path("sh")}, Busybox: w.path("bb"),
				Modules: index, Kernel: "RELEASE", Arch: "amd64", Sysroot: w.path("root"),
			}
			for _, p := range tmpl.Programs {
				b.Programs[p.Import] = w.path("sh")
			}
			img, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			for _, s := range img.Segments {
				for _, e := range s.Entries {
					fmt.Fprintf(&got, "%06o %s", e.Mode, e.Name)
					if e.IsDir() {
						got.WriteByte('/')
					}
					fmt.Fprintf(&got, "  (%s)\n", e.Why)
				}
			}
			golden := filepath.Join("testdata", name+".list")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("the image of %s has changed (UPDATE_GOLDEN=1 go test writes the list):\n%s", name, difference(string(want), got.String()))
			}
		})
	}
}

// difference are the lines that only one has.
func difference(a, b string) string {
	var out strings.Builder
	only := func(sign, x, y string) {
		have := map[string]bool{}
		for l := range strings.Lines(y) {
			have[l] = true
		}
		for l := range strings.Lines(x) {
			if !have[l] {
				out.WriteString(sign + l)
			}
		}
	}
	only("-", a, b)
	only("+", b, a)
	return out.String()
}
