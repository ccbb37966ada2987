package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

// value is any of what a document of ours may hold.
type value struct {
	Text string   `json:"text"`
	List []string `json:"list"`
	Int  int      `json:"int"`
	Long int64    `json:"long"`
	User uint32   `json:"user"`
	Bool bool     `json:"bool"`
	More []value  `json:"more"`
}

func (v *value) read(r *Reader) error {
	return r.Object(func(key string) error {
		switch key {
		case "text":
			return Text(r, &v.Text)
		case "list":
			return Texts(r, &v.List)
		case "int":
			return r.Int(&v.Int)
		case "long":
			return r.Int64(&v.Long)
		case "user":
			return r.Uint32(&v.User)
		case "bool":
			return r.Bool(&v.Bool)
		case "more":
			return List(r, &v.More, (*value).read)
		}
		return r.Unknown(key)
	})
}

func parse(text []byte) (v value, err error) {
	r := NewReader(text)
	if err = v.read(r); err == nil {
		err = r.End()
	}
	return v, err
}

// theirs is what encoding/json makes of it.
func theirs(text []byte) (v value, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err = d.Decode(&v); err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errors.New("more")
		}
	}
	return v, err
}

var good = []string{
	`{}`, ` { } `, `null`, "{\"text\":\"a\"}\n",
	`{"text":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀","list":["a",null,""],"int":-5,"long":9223372036854775807,"user":4294967295,"bool":true}`,
	`{"list":null,"int":null,"bool":null,"more":null,"text":null}`,
	`{"more":[{"more":[{"int":0}]},{"bool":false}],"list":[]}`,
	`{"long":-9223372036854775808}`,
}

var bad = map[string]string{
	``: "EOF", `{`: "EOF", `{"text"`: "EOF", `{"text":"`: "EOF", `{"text":"\`: "EOF", `{"text":"\u12`: "EOF", `[]`: "want an object",
	`{}x`: "follows", `{"other":1}`: `unknown key "other"`, `{"int":1,"int":2}`: "second time", `{"Int":1}`: "unknown key",
	`{"int":01}`: "whole", `{"int":1.0}`: "whole", `{"int":1e3}`: "whole", `{"int":"1"}`: "whole", `{"int":-}`: "whole",
	`{"user":-1}`: "from 0", `{"user":4294967296}`: "from 0", `{"long":9223372036854775808}`: "want a number",
	`{"bool":tru}`: "true or false", `{"text":1}`: "string", "{\"text\":\"\x01\"}": "control", "{\"text\":\"\xff\"}": "UTF-8",
	`{"text":"\x"}`: "escape", `{"text":"\u00g0"}`: "hexadecimal", `{"text":"\ud800"}`: "surrogate", `{"text":"\ud800\u0041"}`: "surrogate",
	`{"int":1,}`: "string", `{,}`: "string", `{"list":["a",]}`: "string", `{"list":["a" "b"]}`: "comma", `{"int" 1}`: "colon",
}

func TestReader(t *testing.T) {
	for _, text := range good {
		got, err := parse([]byte(text))
		want, jsonErr := theirs([]byte(text))
		if err != nil || jsonErr != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; encoding/json: %+v, %v", text, got, err, want, jsonErr)
		}
	}
	for text, want := range bad {
		if v, err := parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v; want an error with %q", text, v, err, want)
		}
	}
	deep := strings.Repeat(`{"more":[`, MaxDepth) + strings.Repeat(`]}`, MaxDepth)
	if _, err := parse([]byte(deep)); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("%d deep: %v", 2*MaxDepth, err)
	}
	var many strings.Builder
	for i := range MaxKeys + 1 {
		many.WriteString(`,"` + strings.Repeat("k", i+1) + `":0`)
	}
	if err := NewReader([]byte("{" + many.String()[1:] + "}")).Skip(); err == nil || !strings.Contains(err.Error(), "keys") {
		t.Errorf("many keys: %v", err)
	}
}

func TestSkip(t *testing.T) {
	for _, text := range append(good, `-0.5e+3`, `1E9`, `[1,"a",{"b":[true,false,null]}]`) {
		r := NewReader([]byte(text))
		if err := r.Skip(); err != nil || r.End() != nil {
			t.Errorf("%s: %v, %v", text, err, r.End())
		}
	}
	for _, text := range []string{``, `-`, `1.`, `1e`, `01`, `tru`, `[`, `{"a":}`, `"`} {
		r := NewReader([]byte(text))
		if r.Skip() == nil && r.End() == nil {
			t.Errorf("%s is JSON", text)
		}
	}
}

func TestAppend(t *testing.T) {
	if s := Object(nil).JSON(); string(s) != "{}" {
		t.Errorf("%s", s)
	}
	text := "a\"\\\n\t\x00\x7f\xffé😀\u2028</>"
	got := Object(nil).Text("none", "").Text("text", text).Int("zero", 0).Number("int", 0).Int("long", -7).Raw("list", []byte(`["a"]`)).JSON()
	v, err := parse(got)
	want := value{Text: strings.ToValidUTF8(text, "\ufffd"), Long: -7, List: []string{"a"}}
	if err != nil || !reflect.DeepEqual(v, want) || bytes.Contains(got, []byte("none")) || !bytes.Contains(got, []byte(`"int":0`)) {
		t.Errorf("%s: %+v, %v", got, v, err)
	}
	if v, err := theirs(got); err != nil || !reflect.DeepEqual(v, want) {
		t.Errorf("encoding/json: %+v, %v", v, err)
	}
}

// FuzzReader holds that encoding/json reads what is read here, to the same
// values, and that what is written is read.
func FuzzReader(f *testing.F) {
	for _, s := range good {
		f.Add([]byte(s))
	}
	for s := range bad {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if r := NewReader(text); r.Skip() == nil && r.End() == nil && !json.Valid(text) {
			t.Fatalf("%q is no JSON", text)
		}
		v, err := parse(text)
		if err != nil {
			return
		}
		want, err := theirs(text)
		if err != nil || !reflect.DeepEqual(v, want) {
			t.Fatalf("%q: %+v, encoding/json: %+v, %v", text, v, want, err)
		}
		out := Object(nil).Text("text", v.Text).Int("int", int64(v.Int)).Int("long", v.Long).JSON()
		again, err := parse(out)
		if err != nil || again.Text != v.Text || again.Int != v.Int || again.Long != v.Long {
			t.Fatalf("%q, written %q: %+v, %v", text, out, again, err)
		}
	})
}
