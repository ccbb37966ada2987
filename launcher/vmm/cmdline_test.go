package vmm

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
)

// FuzzCommandLine holds that the guest reads from the kernel command line what
// was put into it, or that it was refused.
func FuzzCommandLine(f *testing.F) {
	for _, s := range []string{"plain", "two words", "", "a=b", "a=b c", "=", "--", "x\ty", "new\nline", `a"b`, "ünï", "'single'", `back\slash`, "\x00"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, value, arg string) {
		p, perr := Parameter("init", value)
		a, aerr := Argument(arg)
		if refused := strings.ContainsAny(value, "\"\x00"); refused != (perr != nil) {
			t.Fatalf("Parameter(%q): %v", value, perr)
		}
		if refused := strings.ContainsAny(arg, "\"\x00"); refused != (aerr != nil) {
			t.Fatalf("Argument(%q): %v", arg, aerr)
		}
		if perr != nil || aerr != nil {
			return
		}
		words, rest := bootproto.SplitCommandLine("quiet " + p + " panic=-1 -- first " + a + " last")
		want := bootproto.Word{Key: "init", Value: value, HasValue: value != ""}
		if len(words) != 3 || words[1] != want {
			t.Errorf("%q: read back as %+v", p, words)
		}
		if !slices.Equal(rest, []string{"first", arg, "last"}) {
			t.Errorf("%q: read back as %q", a, rest)
		}
	})
}

// TestQuote has a real shell read what quote wrote.
func TestQuote(t *testing.T) {
	args := []string{"plain-1.0_/x", "", "two words", "it's", `"$HOME" \ !`, "a;b&c|d", "*?[x]", "~", "-n", "new\nline", "ünï", "{a,b}", "#"}
	c := Command{Path: "/bin/echo", Args: args}
	out, err := exec.Command("sh", "-c", `set -- `+c.String()+`; shift; printf '%s\0' "$@"`).Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00"); !slices.Equal(got, args) {
		t.Errorf("a shell reads %q, want %q", got, args)
	}
}
