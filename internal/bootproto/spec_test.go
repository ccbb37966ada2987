package bootproto

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestParseBootSpec(t *testing.T) {
	tests := []struct{ name, text, err string }{
		{"least", `{"version":1}`, ""},
		{"most", `{"version":1,"kernel":"6.1","modules":[{"name":"fuse","path":"/lib/fuse.ko","options":"a=1"}],
			"mounts":[{"source":"none","target":"/x","type":"tmpfs","options":"ro"}],"mode":"run","shell":["/bin/sh","-l"]}`, ""},
		{"empty", ``, "unexpected EOF"},
		{"cut", `{"version":1`, "unexpected EOF"},
		{"not JSON", `version: 1`, "want an object"},
		{"another type", `[]`, "want an object"},
		{"null", `null`, "version 0, this program reads version 1"},
		{"no version", `{}`, "version 0, this program reads version 1"},
		{"later version", `{"version":2}`, "version 2, this program reads version 1"},
		{"unknown key", `{"version":1,"modlues":[]}`, `unknown key "modlues"`},
		{"unknown key below", `{"version":1,"modules":[{"name":"a","path":"/a","option":"x"}]}`, `unknown key "option"`},
		{"two values", `{"version":1}{"version":1}`, "something follows the JSON value"},
		{"garbage behind", `{"version":1} x`, "something follows the JSON value"},
		{"space behind", "{\"version\":1}\n\n", ""},
		{"module without a name", `{"version":1,"modules":[{"path":"/a"}]}`, "modules[0]"},
		{"module with a relative path", `{"version":1,"modules":[{"name":"a","path":"/a"},{"name":"b","path":"b"}]}`, "modules[1]"},
		{"module outside", `{"version":1,"modules":[{"name":"a","path":"/lib/../../a"}]}`, "modules[0]"},
		{"module with a NUL", `{"version":1,"modules":[{"name":"a","path":"/a\u0000b"}]}`, "modules[0]"},
		{"mount without a type", `{"version":1,"mounts":[{"source":"a","target":"/a"}]}`, "mounts[0]"},
		{"mount on a relative path", `{"version":1,"mounts":[{"source":"a","target":"a","type":"b"}]}`, "mounts[0]"},
		{"init is no mode of an image", `{"version":1,"mode":"init"}`, `mode "init": want find, shell or run`},
		{"hooks", `{"version":1,"hooks":{"before_store":[{"argv":["/a","b"]}],"after_store":[{"argv":["/c"],"optional":true}]}}`, ""},
		{"needs", `{"version":1,"modules":[{"name":"a","path":"/a"},{"name":"b","path":"/b","needs":["a"]}]}`, ""},
		{"needs a later one", `{"version":1,"modules":[{"name":"a","path":"/a","needs":["b"]},{"name":"b","path":"/b"}]}`, "modules[0]: a needs b, which does not stand before it"},
		{"hook without a program", `{"version":1,"hooks":{"before_store":[{"argv":["/a"]},{}]}}`, "hooks.before_store[1]: empty"},
		{"relative hook", `{"version":1,"hooks":{"after_store":[{"argv":["a"]}]}}`, `hooks.after_store[0]: "a" is not an absolute path`},
		{"unknown key of hooks", `{"version":1,"hooks":{"before":[]}}`, `unknown key "before"`},
		{"relative shell", `{"version":1,"shell":["sh"]}`, `shell: "sh" is not an absolute path`},
		{"shell with a NUL", `{"version":1,"shell":["/sh","a\u0000"]}`, "shell[1]: contains a NUL byte"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseBootSpec([]byte(tt.text))
			checkParsed(t, s == nil, err, "boot specification: ", tt.err)
		})
	}
	if _, err := ParseBootSpec(nil); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("no data: %v", err)
	}
}

func TestParseRunSpec(t *testing.T) {
	tests := []struct{ name, text, err string }{
		{"least", `{"version":1,"argv":["/x"]}`, ""},
		{"most", `{"version":1,"argv":["/x",""," a\nb "],"env":["A=","B=c=d\ne"],"dir":"/","stdin":"null","terminal":true,"rows":65535,"columns":0}`, ""},
		{"stdin", `{"version":1,"argv":["/x"],"stdin":"console"}`, ""},
		{"no program", `{"version":1}`, "argv: empty"},
		{"relative program", `{"version":1,"argv":["x"]}`, `argv: "x" is not an absolute path`},
		{"program not in its shortest form", `{"version":1,"argv":["/x/../y"]}`, `argv: "/x/../y" is not an absolute path`},
		{"argument with a NUL", `{"version":1,"argv":["/x","\u0000"]}`, "argv[1]: contains a NUL byte"},
		{"variable without a value", `{"version":1,"argv":["/x"],"env":["A"]}`, `env[0]: "A" is not KEY=VALUE`},
		{"variable without a name", `{"version":1,"argv":["/x"],"env":["A=1","=1"]}`, `env[1]: "=1" is not KEY=VALUE`},
		{"variable with a NUL", `{"version":1,"argv":["/x"],"env":["A=\u0000"]}`, "env[0]"},
		{"relative directory", `{"version":1,"argv":["/x"],"dir":"x"}`, `dir "x": want an absolute path`},
		{"ports", `{"version":1,"argv":["/x"],"stdin":"port","stdout":"port","stderr":"console","control":true}`, ""},
		{"unknown output", `{"version":1,"argv":["/x"],"stdout":"file"}`, `stdout "file": want console or port`},
		{"unknown error output", `{"version":1,"argv":["/x"],"stderr":"null"}`, `stderr "null": want console or port`},
		{"unknown input", `{"version":1,"argv":["/x"],"stdin":"file"}`, `stdin "file": want console, null or port`},
		{"user and limit", `{"version":1,"argv":["/x"],"user":{"uid":1,"gid":2,"groups":[3]},"limit_ms":5}`, ""},
		{"negative user", `{"version":1,"argv":["/x"],"user":{"uid":-1}}`, "want a number from 0"},
		{"negative limit", `{"version":1,"argv":["/x"],"limit_ms":-5}`, "limit_ms -5: want 0 or more"},
		{"negative rows", `{"version":1,"argv":["/x"],"rows":-1}`, "terminal size 0 x -1: want 0 to 65535"},
		{"many columns", `{"version":1,"argv":["/x"],"columns":65536}`, "terminal size 65536 x 0"},
		{"unknown key", `{"version":1,"argv":["/x"],"cwd":"/"}`, `unknown key "cwd"`},
		{"version of another kind", `{"version":"1","argv":["/x"]}`, "want a whole number"},
		{"empty", ` `, "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := ParseRunSpec([]byte(tt.text))
			checkParsed(t, s == nil, err, "run specification: ", tt.err)
		})
	}
}

// checkParsed holds the contract of all parsers: a value or an error, and the
// error begins with what was parsed.
func checkParsed(t *testing.T, isNil bool, err error, prefix, want string) {
	t.Helper()
	switch {
	case isNil == (err == nil):
		t.Errorf("value nil %v beside error %v", isNil, err)
	case (err == nil) != (want == ""):
		t.Errorf("error %v, want %q", err, want)
	case err != nil && !(strings.HasPrefix(err.Error(), prefix) && strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want %s...%s", err, prefix, want)
	}
}

// again holds that what was parsed is parsed the same once it is written.
func again[T any](t *testing.T, v *T, parse func([]byte) (*T, error)) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	w, err := parse(data)
	if err != nil {
		t.Fatalf("%s: %v", data, err)
	}
	data2, err := json.Marshal(w)
	if err != nil || string(data) != string(data2) {
		t.Errorf("%s became %s, %v", data, data2, err)
	}
}

func FuzzParseBootSpec(f *testing.F) {
	f.Add([]byte(`{"version":1,"kernel":"6.1","modules":[{"name":"fuse","path":"/lib/fuse.ko","options":"a=1"}],"mounts":[{"source":"none","target":"/x","type":"tmpfs","options":"ro"}],"mode":"run","shell":["/bin/sh","-l"]}`))
	f.Add([]byte(`{"version":1,"mode":"init"}`))
	f.Add([]byte(`{"version":1,"hooks":{"before_store":[{"argv":["/a"],"optional":true}],"after_store":[{"argv":["/c"]}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseBootSpec(data); err == nil {
			again(t, s, ParseBootSpec)
		}
	})
}

func FuzzParseRunSpec(f *testing.F) {
	f.Add([]byte(`{"version":1,"argv":["/x",""," a\nb "],"env":["A=","B=c=d\ne"],"dir":"/","stdin":"null","terminal":true,"rows":65535}`))
	f.Add([]byte(`{"version":1,"argv":["x"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseRunSpec(data); err == nil {
			again(t, s, ParseRunSpec)
		}
	})
}

// TestSeedsReachTheParsers holds that the first seed of each fuzz target is
// accepted, and so goes through every check.
func TestSeedsReachTheParsers(t *testing.T) {
	boot, err := ParseBootSpec([]byte(`{"version":1,"modules":[{"name":"fuse","path":"/lib/fuse.ko"}]}`))
	if err != nil || !reflect.DeepEqual(boot.Modules, []BootModule{{Name: "fuse", Path: "/lib/fuse.ko"}}) {
		t.Errorf("%+v, %v", boot, err)
	}
	run, err := ParseRunSpec([]byte(`{"version":1,"argv":["/x","y"],"env":["A=b"],"stdin":"null"}`))
	if err != nil || !reflect.DeepEqual(run, &RunSpec{Version: 1, Argv: []string{"/x", "y"}, Env: []string{"A=b"}, Stdin: StdinNull}) {
		t.Errorf("%+v, %v", run, err)
	}
}
