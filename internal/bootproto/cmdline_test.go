package bootproto

import (
	"slices"
	"strings"
	"testing"
)

func commandLines() []struct {
	line  string
	words []Word
	rest  []string
} {
	return []struct {
		line  string
		words []Word
		rest  []string
	}{
		{"", nil, nil},
		{" \t\n", nil, nil},
		{"quiet", []Word{{"quiet", "", false}}, nil},
		{"a=b c=", []Word{{"a", "b", true}, {"c", "", true}}, nil},
		{"a=b=c", []Word{{"a", "b=c", true}}, nil},
		{"=a", []Word{{"=a", "", false}}, nil},
		{`a="b c" d`, []Word{{"a", "b c", true}, {"d", "", false}}, nil},
		{`"a=b c" d`, []Word{{"a", "b c", true}, {"d", "", false}}, nil},
		{`"a b"`, []Word{{"a b", "", false}}, nil},
		{`a=b"c d"e`, []Word{{"a", `b"c d"e`, true}}, nil},
		{`a="b"c"`, []Word{{"a", `b"c`, true}}, nil},
		{`a=""`, []Word{{"a", "", true}}, nil},
		{`a="`, []Word{{"a", "", true}}, nil},
		{`"`, []Word{{"", "", false}}, nil},
		{`a="b c`, []Word{{"a", "b c", true}}, nil},
		{`a='b c'`, []Word{{"a", "'b", true}, {"c'", "", false}}, nil},
		// There is no escape: the quote after the backslash ends quoting.
		{`a="b \" c"`, []Word{{"a", `b \`, true}, {`c"`, "", false}}, nil},
		{"a -- b c=d", []Word{{"a", "", false}}, []string{"b", "c=d"}},
		{`-- "b c" d="e f" --`, nil, []string{"b c", "d=e f", "--"}},
		{`"--" b`, nil, []string{"b"}},
		{"--=x b", []Word{{"--", "x", true}, {"b", "", false}}, nil},
		{"a\u00a0b=ünï", []Word{{"a\u00a0b", "ünï", true}}, nil},
	}
}

func TestSplitCommandLine(t *testing.T) {
	for _, tt := range commandLines() {
		words, rest := SplitCommandLine(tt.line)
		if !slices.Equal(words, tt.words) || !slices.Equal(rest, tt.rest) {
			t.Errorf("%s: %+v %q, want %+v %q", tt.line, words, rest, tt.words, tt.rest)
		}
	}
}

// kernelNextArg does what lib/cmdline.c does, on a NUL-terminated buffer and by
// writing NUL bytes into it, as another way to the same result.
func kernelNextArg(args []byte) (param, value []byte, hasValue bool, next []byte) {
	isspace := func(c byte) bool { return c != 0 && strings.IndexByte(kernelSpace, c) >= 0 }
	inQuote, quoted := false, false
	if args[0] == '"' {
		args = args[1:]
		inQuote, quoted = true, true
	}
	equals, i := 0, 0
	for ; args[i] != 0; i++ {
		if isspace(args[i]) && !inQuote {
			break
		}
		if equals == 0 && args[i] == '=' {
			equals = i
		}
		if args[i] == '"' {
			inQuote = !inQuote
		}
	}
	value = []byte{0}
	if equals != 0 {
		hasValue = true
		args[equals] = 0
		value = args[equals+1:]
		if value[0] == '"' {
			value = value[1:]
			if args[i-1] == '"' {
				args[i-1] = 0
			}
		}
	}
	if quoted && i > 0 && args[i-1] == '"' {
		args[i-1] = 0
	}
	if args[i] != 0 {
		args[i] = 0
		next = args[i+1:]
	} else {
		next = args[i:]
	}
	for isspace(next[0]) {
		next = next[1:]
	}
	return args, value, hasValue, next
}

func cString(b []byte) string {
	s, _, _ := strings.Cut(string(b), "\x00")
	return s
}

// FuzzSplitCommandLine compares with the kernel's algorithm.
func FuzzSplitCommandLine(f *testing.F) {
	for _, tt := range commandLines() {
		f.Add(tt.line)
	}
	f.Add(`console=ttyS0 tvix.run="/nix/store/x/bin/y 'a b'" -- z`)
	f.Fuzz(func(t *testing.T, line string) {
		line, _, _ = strings.Cut(line, "\x00")
		words, rest := SplitCommandLine(line)
		var wantWords []Word
		var wantRest []string
		after := false
		next := append([]byte(strings.TrimLeft(line, kernelSpace)), 0)
		for next[0] != 0 {
			var param, value []byte
			var has bool
			param, value, has, next = kernelNextArg(next)
			w := Word{cString(param), cString(value), has}
			switch {
			case after && has:
				wantRest = append(wantRest, w.Key+"="+w.Value)
			case after:
				wantRest = append(wantRest, w.Key)
			case w.Key == "--" && !has:
				after = true
			default:
				wantWords = append(wantWords, w)
			}
		}
		if !slices.Equal(words, wantWords) || !slices.Equal(rest, wantRest) {
			t.Errorf("%q: %+v %q, the kernel has %+v %q", line, words, rest, wantWords, wantRest)
		}
	})
}

func TestSplitWords(t *testing.T) {
	tests := []struct {
		text string
		want []string
		err  string
	}{
		{"", nil, ""},
		{" \t ", nil, ""},
		{"a b\tc\n", []string{"a", "b", "c"}, ""},
		{`'a b' "c d"`, []string{"a b", "c d"}, ""},
		{`a'b'"c"d`, []string{"abcd"}, ""},
		{`'' ""`, []string{"", ""}, ""},
		{`a\ b \'c \\`, []string{"a b", "'c", `\`}, ""},
		{`'a\'`, []string{`a\`}, ""},
		{`"a\"b\\c\d"`, []string{`a"b\cd`}, ""},
		{`"a'b" 'c"d'`, []string{"a'b", `c"d`}, ""},
		{"ünï \xff", []string{"ünï", "\xff"}, ""},
		{`a\`, nil, "a backslash at the end"},
		{`"a\`, nil, "a backslash at the end"},
		{`'a`, nil, "a quote is not closed"},
		{`"a`, nil, "a quote is not closed"},
	}
	for _, tt := range tests {
		got, err := SplitWords(tt.text)
		if !slices.Equal(got, tt.want) || (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s: %q, %v; want %q, %q", tt.text, got, err, tt.want, tt.err)
		}
	}
}

// FuzzSplitWords holds that quoted words come back as they were.
func FuzzSplitWords(f *testing.F) {
	f.Add(`a 'b c' "d\"e" f\ g`)
	f.Add(`'`)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		words, err := SplitWords(text)
		if err != nil {
			if words != nil {
				t.Errorf("%q beside %v", words, err)
			}
			return
		}
		var quoted []string
		for i, w := range words {
			if i%2 == 0 {
				w = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
			} else {
				w = `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(w) + `"`
			}
			quoted = append(quoted, w)
		}
		again, err := SplitWords(strings.Join(quoted, "\n"))
		if err != nil || !slices.Equal(words, again) {
			t.Errorf("%q became %q, %v", words, again, err)
		}
	})
}
