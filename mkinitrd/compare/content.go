package compare

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxText is the largest text that is compared by lines.
	maxText = 1 << 20
	// maxLine is how much of a line is shown.
	maxLine = 80
	// maxSections is how many sections of a program are named.
	maxSections = 5
)

// content says what differs between two files; nothing if it is neither text
// nor a program.
func content(a, b *io.SectionReader) []string {
	if x, y, ok := programs(a, b); ok {
		return programDetail(x, y)
	}
	if a.Size() > maxText || b.Size() > maxText {
		return nil
	}
	x, err := io.ReadAll(a)
	if err != nil {
		return nil
	}
	y, err := io.ReadAll(b)
	if err != nil || !isText(x) || !isText(y) {
		return nil
	}
	return textDetail(string(x), string(y))
}

func isText(b []byte) bool { return utf8.Valid(b) && bytes.IndexByte(b, 0) < 0 }

// textDetail shows the first line that differs, and how many lines are new or
// gone, wherever they stand.
func textDetail(a, b string) []string {
	x, y := lines(a), lines(b)
	i := 0
	for i < len(x) && i < len(y) && x[i] == y[i] {
		i++
	}
	out := []string{fmt.Sprintf("line %d", i+1)}
	if i < len(x) {
		out = append(out, "- "+short(x[i]))
	}
	if i < len(y) {
		out = append(out, "+ "+short(y[i]))
	}
	count := map[string]int{}
	for _, s := range x {
		count[s]--
	}
	for _, s := range y {
		count[s]++
	}
	gone, fresh := 0, 0
	for _, n := range count {
		gone -= min(n, 0)
		fresh += max(n, 0)
	}
	if gone > 1 || fresh > 1 {
		out[0] += fmt.Sprintf(" is the first; %d lines are gone, %d new", gone, fresh)
	}
	return out
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// short makes a line fit to be shown.
func short(s string) string {
	cut := ""
	if r := []rune(s); len(r) > maxLine {
		s, cut = string(r[:maxLine]), "..."
	}
	if q := strconv.Quote(s); q != `"`+s+`"` && strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) }) {
		s = q
	}
	return s + cut
}

func programs(a, b *io.SectionReader) (x, y *elf.File, ok bool) {
	x, err := elf.NewFile(a)
	if err != nil {
		return nil, nil, false
	}
	y, err = elf.NewFile(b)
	return x, y, err == nil
}

// programDetail compares machines, needed libraries, and sections.
func programDetail(x, y *elf.File) []string {
	var out []string
	if x.Machine != y.Machine {
		out = append(out, fmt.Sprintf("machine %v -> %v", x.Machine, y.Machine))
	}
	needs := func(f *elf.File) []string { l, _ := f.ImportedLibraries(); return l }
	for _, l := range needs(x) {
		if !slices.Contains(needs(y), l) {
			out = append(out, "needs no more "+short(l))
		}
	}
	for _, l := range needs(y) {
		if !slices.Contains(needs(x), l) {
			out = append(out, "needs now "+short(l))
		}
	}
	sizes := func(f *elf.File) map[string]int64 {
		m := map[string]int64{}
		for _, s := range f.Sections {
			if s.Name != "" {
				m[s.Name] += int64(min(s.FileSize, 1<<40))
			}
		}
		return m
	}
	a, b := sizes(x), sizes(y)
	names := slices.Collect(maps.Keys(a))
	for n := range b {
		if _, ok := a[n]; !ok {
			names = append(names, n)
		}
	}
	grown := func(n string) int64 { d := b[n] - a[n]; return max(d, -d) }
	slices.SortFunc(names, func(p, q string) int {
		if d := grown(q) - grown(p); d != 0 {
			return int(max(min(d, 1), -1))
		}
		return strings.Compare(p, q)
	})
	for i, n := range names {
		if grown(n) == 0 || i == maxSections {
			break
		}
		out = append(out, fmt.Sprintf("section %s %d -> %d", short(n), a[n], b[n]))
	}
	return out
}
