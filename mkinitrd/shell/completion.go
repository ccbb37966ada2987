package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// complete completes the word before the cursor at the tab key, as far as it
// is certain.
func (e *editor) complete(line string, pos int, key rune) (string, int, bool) {
	if key != '\t' {
		return "", 0, false
	}
	start := wordStart(line[:pos])
	word := line[start:pos]
	var names []string
	if first := strings.TrimSpace(line[:start]); (first == "" || strings.HasSuffix(first, "|") || strings.HasSuffix(first, ";")) && !strings.Contains(word, "/") {
		names = commandNames(e.runner.Env.Get("PATH").String(), word)
	} else {
		names = fileNames(e.runner.Dir, word)
	}
	full := commonPrefix(names)
	if len(names) == 1 && !strings.HasSuffix(full, "/") {
		full += " "
	}
	if len(full) <= len(word) {
		return line, pos, true
	}
	return line[:start] + full + line[pos:], start + len(full), true
}

// wordStart is where the last word of s begins; a space after a backslash does
// not end one.
func wordStart(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if strings.IndexByte(" \t;|&<>()", s[i]) >= 0 && (i == 0 || s[i-1] != '\\') {
			return i + 1
		}
	}
	return 0
}

func commandNames(path, prefix string) []string {
	var names []string
	for _, dir := range filepath.SplitList(path) {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), prefix) {
				names = append(names, e.Name())
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fileNames are the names that word, a path relative to dir, may become.
func fileNames(dir, word string) []string {
	plain := strings.ReplaceAll(word, "\\", "")
	parent, prefix := filepath.Split(plain)
	look := parent
	if !filepath.IsAbs(look) {
		look = filepath.Join(dir, look)
	}
	entries, _ := os.ReadDir(look)
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || prefix == "" && e.Name()[0] == '.' {
			continue
		}
		name := quote(parent + e.Name())
		if st, err := os.Stat(filepath.Join(look, e.Name())); err == nil && st.IsDir() {
			name += "/"
		}
		names = append(names, name)
	}
	return names
}

// quote puts a backslash before what the shell would not take for a name.
func quote(s string) string {
	var b strings.Builder
	for _, c := range s {
		if strings.ContainsRune(" \t\n\\'\"$`*?[]{}()<>|&;#!~", c) {
			b.WriteByte('\\')
		}
		b.WriteRune(c)
	}
	return b.String()
}

func commonPrefix(names []string) string {
	if len(names) == 0 {
		return ""
	}
	p := names[0]
	for _, n := range names[1:] {
		for !strings.HasPrefix(n, p) {
			p = p[:len(p)-1]
		}
	}
	return p
}
