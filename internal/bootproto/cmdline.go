package bootproto

import (
	"errors"
	"strings"
)

// Word is one parameter of the kernel command line. HasValue tells "key=" from
// "key".
type Word struct {
	Key, Value string
	HasValue   bool
}

// SplitCommandLine splits a kernel command line as the kernel does
// (lib/cmdline.c next_arg, kernel/params.c parse_args): white space separates,
// a double quote switches quoting on and off anywhere, there are no escapes; a
// word or a value that begins with a quote loses it and a quote at its end. The
// word "--" ends the parameters: rest is what follows it, for the new init.
func SplitCommandLine(line string) (words []Word, rest []string) {
	after := false
	for {
		line = strings.TrimLeft(line, kernelSpace)
		if line == "" {
			return words, rest
		}
		var w Word
		w, line = nextArg(line)
		switch {
		case after:
			s := w.Key
			if w.HasValue {
				s += "=" + w.Value
			}
			rest = append(rest, s)
		case w.Key == "--" && !w.HasValue:
			after = true
		default:
			words = append(words, w)
		}
	}
}

// kernelSpace is isspace() of the kernel (lib/ctype.c), less the non-breaking
// space of Latin-1 that would split UTF-8.
const kernelSpace = " \t\n\v\f\r"

// nextArg takes one word off line, which begins with no space and is not empty.
func nextArg(line string) (Word, string) {
	quoted, inQuote := false, false
	if line[0] == '"' {
		line = line[1:]
		quoted, inQuote = true, true
	}
	equals, i := 0, 0
	for ; i < len(line); i++ {
		c := line[i]
		if strings.IndexByte(kernelSpace, c) >= 0 && !inQuote {
			break
		}
		if equals == 0 && c == '=' {
			equals = i
		}
		if c == '"' {
			inQuote = !inQuote
		}
	}
	arg, next := line[:i], line[i:]
	if equals == 0 {
		if quoted {
			arg = strings.TrimSuffix(arg, `"`)
		}
		return Word{Key: arg}, next
	}
	key, value := arg[:equals], arg[equals+1:]
	if v, ok := strings.CutPrefix(value, `"`); ok {
		value = strings.TrimSuffix(v, `"`)
	} else if quoted {
		value = strings.TrimSuffix(value, `"`)
	}
	return Word{Key: key, Value: value, HasValue: true}, next
}

// SplitWords splits the value of the run parameter into words: white space
// separates; single and double quotes group; a backslash takes the next
// character as it is, except within single quotes.
func SplitWords(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '\\' && quote != '\'':
			i++
			if i == len(s) {
				return nil, errors.New("a backslash at the end")
			}
			word.WriteByte(s[i])
			inWord = true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteByte(c)
			}
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case strings.IndexByte(kernelSpace, c) >= 0:
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errors.New("a quote is not closed")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
