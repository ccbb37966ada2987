package strictjson

import (
	"errors"
	"io"
	"slices"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of a document.
const (
	MaxDepth = 32
	MaxKeys  = 1024 // of one object
)

// Reader reads one document, value by value. It is used from one goroutine, and
// not after an error.
type Reader struct {
	text  []byte
	at    int
	depth int
}

// NewReader reads text, which must not change meanwhile.
func NewReader(text []byte) *Reader { return &Reader{text: text} }

// Unknown is the error for a key that there is not.
func (r *Reader) Unknown(key string) error {
	return r.fail("unknown key " + strconv.Quote(key))
}

// End says whether nothing follows.
func (r *Reader) End() error {
	if r.peek() != 0 || r.at < len(r.text) {
		return r.fail("something follows the JSON value")
	}
	return nil
}

func (r *Reader) fail(text string) error {
	return errors.New("byte " + strconv.Itoa(r.at) + ": " + text)
}

// want is the error where something else stands, or nothing.
func (r *Reader) want(what string) error {
	if r.at >= len(r.text) {
		return io.ErrUnexpectedEOF
	}
	return r.fail("want " + what)
}

// peek skips space and returns the next byte, 0 at the end.
func (r *Reader) peek() byte {
	for ; r.at < len(r.text); r.at++ {
		switch c := r.text[r.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// literal takes the word if it is what stands next.
func (r *Reader) literal(word string) bool {
	r.peek()
	if len(r.text)-r.at < len(word) || string(r.text[r.at:r.at+len(word)]) != word {
		return false
	}
	r.at += len(word)
	return true
}

// Null takes a null, if that is what stands next.
func (r *Reader) Null() bool { return r.literal("null") }

// Object reads an object; member is called after each key, and reads its value.
func (r *Reader) Object(member func(key string) error) error {
	var keys []string
	return r.items('{', '}', "an object", func() error {
		key, err := r.str()
		if err != nil {
			return err
		}
		if slices.Contains(keys, key) {
			return r.fail("the key " + strconv.Quote(key) + " for the second time")
		}
		if keys = append(keys, key); len(keys) > MaxKeys {
			return r.fail("more than " + strconv.Itoa(MaxKeys) + " keys")
		}
		if r.peek() != ':' {
			return r.want("a colon")
		}
		r.at++
		return member(key)
	})
}

// Array reads an array; element is called for each element, and reads it.
func (r *Reader) Array(element func() error) error {
	return r.items('[', ']', "an array", element)
}

// items reads what stands between begin and end, with commas.
func (r *Reader) items(begin, end byte, what string, item func() error) error {
	if r.Null() {
		return nil
	}
	if r.peek() != begin {
		return r.want(what)
	}
	r.at++
	if r.depth++; r.depth > MaxDepth {
		return r.fail("nested more than " + strconv.Itoa(MaxDepth) + " deep")
	}
	defer func() { r.depth-- }()
	for first := true; ; first = false {
		switch c := r.peek(); {
		case c == end && first:
			r.at++
			return nil
		case first:
		case c == end:
			r.at++
			return nil
		case c == ',':
			r.at++
		default:
			return r.want("a comma or the end of " + what)
		}
		if err := item(); err != nil {
			return err
		}
	}
}

// Text reads a string.
func Text[T ~string](r *Reader, to *T) error {
	if r.Null() {
		return nil
	}
	s, err := r.str()
	if err == nil {
		*to = T(s)
	}
	return err
}

// Bool reads true or false.
func (r *Reader) Bool(to *bool) error {
	switch {
	case r.Null():
	case r.literal("true"):
		*to = true
	case r.literal("false"):
		*to = false
	default:
		return r.want("true or false")
	}
	return nil
}

// Int reads an integer from least to most.
func (r *Reader) int(least, most int64) (n int64, null bool, err error) {
	if r.Null() {
		return 0, true, nil
	}
	r.peek()
	from := r.at
	if r.at < len(r.text) && r.text[r.at] == '-' {
		r.at++
	}
	digits := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	if r.at == digits || r.text[digits] == '0' && r.at > digits+1 {
		return 0, false, r.want("a whole number")
	}
	if r.at < len(r.text) && (r.text[r.at] == '.' || r.text[r.at]|0x20 == 'e') {
		return 0, false, r.fail("want a whole number")
	}
	n, err = strconv.ParseInt(string(r.text[from:r.at]), 10, 64)
	if err != nil || n < least || n > most {
		return 0, false, r.fail("want a number from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10))
	}
	return n, false, nil
}

// Int reads a whole number.
func (r *Reader) Int(to *int) error {
	n, null, err := r.int(-1<<(strconv.IntSize-1), 1<<(strconv.IntSize-1)-1)
	if err == nil && !null {
		*to = int(n)
	}
	return err
}

// Int64 reads a whole number.
func (r *Reader) Int64(to *int64) error {
	n, null, err := r.int(-1<<63, 1<<63-1)
	if err == nil && !null {
		*to = n
	}
	return err
}

// Uint32 reads a whole number from 0.
func (r *Reader) Uint32(to *uint32) error {
	n, null, err := r.int(0, 1<<32-1)
	if err == nil && !null {
		*to = uint32(n)
	}
	return err
}

// List reads an array of what read reads.
func List[T any](r *Reader, to *[]T, read func(*T, *Reader) error) error {
	if r.Null() {
		return nil
	}
	list := []T{}
	err := r.Array(func() error {
		var x T
		err := read(&x, r)
		list = append(list, x)
		return err
	})
	*to = list
	return err
}

// Texts reads an array of strings.
func Texts(r *Reader, to *[]string) error {
	return List(r, to, func(s *string, r *Reader) error { return Text(r, s) })
}

// Skip reads any value.
func (r *Reader) Skip() error {
	switch c := r.peek(); {
	case c == '{':
		return r.Object(func(string) error { return r.Skip() })
	case c == '[':
		return r.Array(r.Skip)
	case c == '"':
		_, err := r.str()
		return err
	case c == '-' || c >= '0' && c <= '9':
		return r.number()
	case r.Null():
		return nil
	}
	return r.Bool(new(bool))
}

// number takes any number.
func (r *Reader) number() error {
	digits := func() bool {
		from := r.at
		for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
			r.at++
		}
		return r.at > from
	}
	is := func(set string) bool {
		for i := range len(set) {
			if r.at < len(r.text) && r.text[r.at] == set[i] {
				r.at++
				return true
			}
		}
		return false
	}
	is("-")
	if !is("0") && !digits() || is(".") && !digits() {
		return r.want("a digit")
	}
	if is("eE") {
		is("+-")
		if !digits() {
			return r.want("a digit")
		}
	}
	return nil
}

// str reads a string.
func (r *Reader) str() (string, error) {
	if r.peek() != '"' {
		return "", r.want("a string")
	}
	r.at++
	from := r.at
	var out []byte // what stands before from, once there was an escape
	for r.at < len(r.text) {
		switch c := r.text[r.at]; {
		case c == '"':
			out = append(out, r.text[from:r.at]...)
			r.at++
			if !utf8.Valid(out) {
				return "", r.fail("text that is no UTF-8")
			}
			return string(out), nil
		case c < ' ':
			return "", r.fail("a control character in a string")
		case c == '\\':
			out = append(out, r.text[from:r.at]...)
			char, err := r.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, char)
			from = r.at
		default:
			r.at++
		}
	}
	return "", io.ErrUnexpectedEOF
}

// escape reads what a backslash begins.
func (r *Reader) escape() (rune, error) {
	r.at++
	if r.at >= len(r.text) {
		return 0, io.ErrUnexpectedEOF
	}
	c := r.text[r.at]
	r.at++
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return r.unicode()
	}
	r.at--
	return 0, r.want("an escape of JSON")
}

// unicode reads the digits of an escape, and the second half of a pair.
func (r *Reader) unicode() (rune, error) {
	first, err := r.hex4()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if len(r.text)-r.at >= 2 && r.text[r.at] == '\\' && r.text[r.at+1] == 'u' {
		r.at += 2
		second, err := r.hex4()
		if err != nil {
			return 0, err
		}
		if c := utf16.DecodeRune(first, second); c != utf8.RuneError {
			return c, nil
		}
	}
	return 0, r.fail("half of a surrogate pair")
}

func (r *Reader) hex4() (rune, error) {
	if len(r.text)-r.at < 4 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := strconv.ParseUint(string(r.text[r.at:r.at+4]), 16, 16)
	if err != nil {
		return 0, r.want("four hexadecimal digits")
	}
	r.at += 4
	return rune(n), nil
}
