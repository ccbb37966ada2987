package composition

import (
	"fmt"
	"strings"
)

// maxDepth is how many brackets may be within each other, and how many dots may
// be in a line outside strings. The tables of a file are four deep. The package
// toml takes time that grows with the cube of the depth.
const maxDepth = 16

// checkDepth refuses a text that is too deep, by its line. It knows strings and
// comments and nothing else of TOML: where the text is not well formed, the
// parser ends before the difference counts.
func checkDepth(text string) (line int, err error) {
	line = 1
	depth, dots := 0, 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\n':
			line, dots = line+1, 0
		case '#':
			if n := strings.IndexByte(text[i:], '\n'); n > 0 {
				i += n - 1 // the line break comes next
			} else {
				return 0, nil
			}
		case '"', '\'':
			n := stringLength(text[i:])
			line += strings.Count(text[i:i+n], "\n")
			i += n - 1
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '.':
			dots++
		}
		if depth > maxDepth || dots > maxDepth {
			return line, fmt.Errorf("more than %d tables, lists or parts of a key are within each other", maxDepth)
		}
	}
	return 0, nil
}

// stringLength is the length of the string that text begins with, quotes
// included, or of what there is of it.
func stringLength(text string) int {
	quote := text[:1]
	if strings.HasPrefix(text, strings.Repeat(quote, 3)) {
		quote = text[:3]
	} else if strings.HasPrefix(text, quote+quote) {
		return 2
	}
	for i := len(quote); i < len(text); i++ {
		switch {
		case text[i] == '\\' && quote[0] == '"':
			i++
		case text[i] == '\n' && len(quote) == 1: // not allowed: the parser ends here
			return i
		case strings.HasPrefix(text[i:], quote):
			end := i + len(quote)
			for len(quote) == 3 && end < min(i+5, len(text)) && text[end] == quote[0] {
				end++ // up to two quotes may be the last of the string
			}
			return end
		}
	}
	return len(text)
}
