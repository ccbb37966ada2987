package boot

import (
	"slices"
	"strings"
	"testing"

	"storeboot/internal/bootproto"
)

// TestHooks holds when hooks run and what their failure does.
func TestHooks(t *testing.T) {
	const spec = `{"version":1,"mode":"find","hooks":{
		"before_store":[{"argv":["/bin/a","x y"]},{"argv":["/bin/b"],"optional":true}],
		"after_store":[{"argv":["/bin/c"]}]}}`
	ended := func(codes ...int) (out []fakeEnd) {
		for _, c := range codes {
			out = append(out, fakeEnd{7, ExitStatus{}}, fakeEnd{fakePID, ExitStatus{Code: c}})
		}
		return out
	}
	tests := []struct {
		name    string
		ends    []fakeEnd
		started int
		step    string
		message string
	}{
		{"all succeed", ended(0, 0, 0), 3, "", ""},
		{"an optional one fails", ended(0, 1, 0), 3, "", ""},
		{"one fails", ended(5), 1, "hooks before the store", "hook /bin/a: exit status 5"},
		{"one is killed", []fakeEnd{{fakePID, ExitStatus{Signal: 9}}}, 1, "hooks before the store", "hook /bin/a: ended by signal 9"},
		{"the last fails", ended(0, 0, 3), 3, "hooks after the store", "hook /bin/c: exit status 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, "")
			f.files[bootproto.BootSpecPath] = spec
			f.ends = tt.ends
			Run(f)
			started := f.made("start ")
			if len(started) != tt.started {
				t.Errorf("started %q, want %d", started, tt.started)
			}
			if len(f.reports) != 1 && tt.step != "hooks before the store" {
				t.Fatalf("reports %+v", f.reports)
			}
			if tt.step == "" {
				if r := f.reports[0]; r.Outcome != bootproto.OutcomeExited {
					t.Errorf("report %+v", r)
				}
				store := slices.IndexFunc(f.calls, func(c string) bool { return strings.HasPrefix(c, "mount tvix") })
				first := slices.Index(f.calls, started[0])
				last := slices.Index(f.calls, started[2])
				if !(first < store && store < last) {
					t.Errorf("hooks at %d and %d, the store at %d", first, last, store)
				}
				return
			}
			said := f.log.String()
			if !strings.Contains(said, tt.step+": "+tt.message) {
				t.Errorf("log %q, want %s: %s", said, tt.step, tt.message)
			}
		})
	}
}
