package strictjson

import (
	"strconv"
	"unicode/utf8"
)

// Object is an object that is being written: the members so far, each behind a
// comma, none of them empty.
type Object []byte

// Text adds a string; what is no UTF-8 in it becomes U+FFFD. An empty one is left
// out.
func (o Object) Text(key, value string) Object {
	if value == "" {
		return o
	}
	return AppendText(o.key(key), value)
}

// Int adds a number, unless it is 0.
func (o Object) Int(key string, n int64) Object {
	if n == 0 {
		return o
	}
	return o.Number(key, n)
}

// Number adds a number, 0 too.
func (o Object) Number(key string, n int64) Object {
	return strconv.AppendInt(o.key(key), n, 10)
}

// Raw adds a value that is JSON already.
func (o Object) Raw(key string, value []byte) Object { return append(o.key(key), value...) }

func (o Object) key(key string) Object {
	return append(AppendText(append(o, ','), key), ':')
}

// JSON is the whole object.
func (o Object) JSON() []byte {
	if len(o) == 0 {
		return []byte("{}")
	}
	o[0] = '{'
	return append(o, '}')
}

// AppendText appends s as a JSON string.
func AppendText(to []byte, s string) []byte {
	const hex = "0123456789abcdef"
	to = append(to, '"')
	for _, c := range s { // a byte that is no UTF-8 is U+FFFD
		switch {
		case c == '"' || c == '\\':
			to = append(to, '\\', byte(c))
		case c == '\n':
			to = append(to, '\\', 'n')
		case c < ' ' || c == 0x7f:
			to = append(to, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			to = utf8.AppendRune(to, c)
		}
	}
	return append(to, '"')
}
