package bootproto

import (
	"bytes"
	"strings"
	"testing"
)

func TestControl(t *testing.T) {
	for _, want := range []Control{{}, {Rows: 24, Columns: 80}, {Signal: 15}, {Rows: 65535, Columns: 65535, Signal: 64}} {
		line, err := want.Line()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Count(line, []byte("\n")) != 1 || line[len(line)-1] != '\n' {
			t.Errorf("%q is not one line", line)
		}
		got, err := ParseControl(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil || *got != want {
			t.Errorf("%q: %+v, %v, want %+v", line, got, err, want)
		}
	}
}

func TestControlErrors(t *testing.T) {
	for line, want := range map[string]string{
		`{"signal":65}`: "signal 65", `{"signal":-1}`: "signal -1", `{"rows":65536}`: "65536", `{"columns":-1}`: "-1",
		`{"size":1}`: "size", `{}{}`: "follows", ``: "EOF", `{"rows":` + strings.Repeat(" ", MaxControl) + `1}`: "at most 256",
	} {
		if _, err := ParseControl([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", line, err, want)
		}
	}
	if _, err := (&Control{Signal: 65}).Line(); err == nil {
		t.Error("a line with signal 65")
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte(`{"rows":24,"columns":80}`))
	f.Add([]byte(`{"signal":2}`))
	f.Add([]byte(`{"signal":`))
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := ParseControl(line)
		if err != nil {
			return
		}
		out, err := c.Line()
		if err != nil {
			t.Fatalf("%q is read and cannot be written: %v", line, err)
		}
		again, err := ParseControl(bytes.TrimSpace(out))
		if err != nil || *again != *c {
			t.Fatalf("%q, then %q: %v", line, out, err)
		}
	})
}
