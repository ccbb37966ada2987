package tests

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
)

func readme(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReadmeParameters holds the README's table of kernel parameters to the one
// that init obeys.
func TestReadmeParameters(t *testing.T) {
	_, rest, ok := strings.Cut(readme(t), "| parameter | what it does |\n|---|---|\n")
	if !ok {
		t.Fatal("the README has no table of kernel parameters")
	}
	var want strings.Builder
	for _, p := range bootproto.Parameters() {
		name := "tvix." + p.Name
		if p.Name == "init" { // the kernel's own
			name = p.Name
		}
		if p.Value != "" {
			name += "=" + p.Value
		}
		fmt.Fprintf(&want, "| `%s` | %s |\n", name, p.Help)
	}
	if got := rest[:min(len(rest), want.Len())]; got != want.String() {
		t.Errorf("the README has\n%s\nwant\n%s", got, want.String())
	}
}

// TestReadmeCommands holds that the commands and flags of the README exist.
func TestReadmeCommands(t *testing.T) {
	w := newWorld(t)
	found := 0
	for _, m := range regexp.MustCompile(`(?m)^ {4}(?:[A-Z_]+=\S+ )*bin/(\S+)(.*)$`).FindAllStringSubmatch(readme(t), -1) {
		found++
		line, _, _ := strings.Cut(m[2], " #")
		words := strings.Fields(line)
		var help []string
		if len(words) > 0 && regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(words[0]) {
			help = append(help, words[0])
		}
		text := w.must(m[1], append(help, "--help")...)
		if len(help) > 0 && !strings.Contains(text, m[1]+" "+help[0]) {
			t.Errorf("%s has no subcommand %s", m[1], help[0])
		}
		for _, word := range words {
			if strings.HasPrefix(word, "/") && strings.HasSuffix(word, "/bin/x") || strings.HasSuffix(word, "/hello") {
				break // what follows belongs to the program in the guest
			}
			flag, _, _ := strings.Cut(word, "=")
			if strings.HasPrefix(flag, "-") && !strings.Contains(text, flag+" ") && !strings.Contains(text, flag+",") && !strings.Contains(text, flag+"\n") {
				t.Errorf("%s %s has no flag %s", m[1], strings.Join(help, " "), flag)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands are found in the README", found)
	}
}
