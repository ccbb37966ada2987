package kbuild

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"storeboot/internal/kconfig"
)

// symbols reads the Kconfig files of a source: which options there are, and what
// each depends on.
type symbols struct {
	depends map[string][]string // by option: conditions, all of which must hold
	prompt  map[string]bool     // options that can be chosen at all

	dir, arch string
}

// block is an if, menu or choice that is open, with what it depends on.
type block struct{ conditions []string }

// maxIncludes is how deep Kconfig files include each other; the kernel's are 6
// deep.
const maxIncludes = 20

// readSymbols reads the Kconfig files of the source in dir for an architecture
// (the kernel's directory name, as x86). It understands as much of the language
// (Documentation/kbuild/kconfig-language.rst) as explanations need: config and
// menuconfig, depends on, if, menu, choice, prompts, source.
func readSymbols(dir, arch string) (*symbols, error) {
	s := &symbols{depends: map[string][]string{}, prompt: map[string]bool{}, dir: dir, arch: arch}
	if err := s.readFile("Kconfig", nil, 0); err != nil {
		return nil, fmt.Errorf("read Kconfig: %w", err)
	}
	return s, nil
}

// continued is the end of a line that goes on in the next.
var continued = regexp.MustCompile(`\s*\\\n\s*`)

// readFile reads the file called name, which stands within the blocks open.
func (s *symbols) readFile(name string, open []block, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("%s: included too deep", name)
	}
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		return err
	}
	open = slices.Clone(open)
	outer := len(open)
	config, inHelp, helpIndent := "", false, 0
	text := continued.ReplaceAllString(string(data), " ")
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, " \t\n")
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		if inHelp {
			if line == "" || indent > 0 && (helpIndent == 0 || indent >= helpIndent) {
				if line != "" && helpIndent == 0 {
					helpIndent = indent
				}
				continue
			}
			inHelp = false
		}
		word, rest, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		rest = strings.TrimSpace(rest)
		switch word {
		case "source", "osource":
			included := strings.ReplaceAll(strings.Trim(rest, `"`), "$(SRCARCH)", s.arch)
			if strings.Contains(included, "$") {
				continue
			}
			if err := s.readFile(included, open, depth+1); err != nil && !(word == "osource" && errors.Is(err, fs.ErrNotExist)) {
				return err
			}
		case "config", "menuconfig":
			config = rest
			var all []string
			for _, b := range open {
				all = append(all, b.conditions...)
			}
			s.depends[config] = append(s.depends[config], all...)
		case "if":
			config = ""
			open = append(open, block{[]string{rest}})
		case "menu", "choice":
			config = ""
			open = append(open, block{})
		case "endif", "endmenu", "endchoice":
			config = ""
			if len(open) > outer {
				open = open[:len(open)-1]
			}
		case "depends":
			condition := strings.TrimSpace(strings.TrimPrefix(rest, "on"))
			switch {
			case config != "":
				s.depends[config] = append(s.depends[config], condition)
			case len(open) > outer:
				open[len(open)-1].conditions = append(open[len(open)-1].conditions, condition)
			}
		case "bool", "tristate", "prompt", "int", "hex", "string":
			s.readPrompt(config, rest)
		case "help", "---help---":
			inHelp, helpIndent = true, 0
		}
	}
	return nil
}

// readPrompt reads what follows an option's type: "TEXT" if CONDITION.
func (s *symbols) readPrompt(config, rest string) {
	if config == "" || !strings.HasPrefix(rest, `"`) {
		return
	}
	s.prompt[config] = true
	if i := strings.LastIndex(rest, `" if `); i >= 0 {
		s.depends[config] = append(s.depends[config], rest[i+len(`" if `):])
	}
}

// explain says why the option, without CONFIG_, does not have the value it should
// in c.
func (s *symbols) explain(name string, c *kconfig.Config) string {
	conditions, known := s.depends[name]
	conditions = slices.Compact(slices.Sorted(slices.Values(conditions)))
	switch {
	case !known:
		return "this kernel has no such option"
	case len(conditions) == 0 && !s.prompt[name]:
		return "it cannot be chosen; other options select it"
	}
	var unmet []string
	for _, condition := range conditions {
		if met, blame := evaluate(condition, c); !met {
			unmet = append(unmet, fmt.Sprintf("%s (%s)", condition, strings.Join(blame, ", ")))
		}
	}
	switch {
	case len(unmet) > 0:
		return "it depends on " + strings.Join(unmet, " and on ")
	case !s.prompt[name]:
		return "it cannot be chosen; other options select it"
	}
	return "another option selects it, or its choice"
}

// has says whether the source has the option.
func (s *symbols) has(name string) bool { _, ok := s.depends[name]; return ok }
