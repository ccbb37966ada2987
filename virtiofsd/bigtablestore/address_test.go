package bigtablestore

import (
	"strings"
	"testing"
	"time"
)

const ids = "project_id=p&table_name=t&family_name=f"

func TestParseAddress(t *testing.T) {
	standard := address{"p", "i", "t", "f", "default", 4, 4 * time.Second, false}
	other := address{"p", "i", "t", "f", "x", 9, 1500 * time.Millisecond, true}
	for raw, want := range map[string]address{
		"bigtable://i?" + ids:  standard,
		"bigtable://i/?" + ids: standard,
		"bigtable://i?" + ids + "&channel_size=9&timeout=1.5&app_profile_id=x&is_read_only=true": other,
	} {
		if got, err := parseAddress(raw); err != nil || got != want {
			t.Errorf("%s: %+v, %v", raw, got, err)
		}
	}
	for raw, want := range map[string]string{
		"bigtable://?" + ids:                                 "no instance",
		"bigtable:i?" + ids:                                  "form",
		"other://i?" + ids:                                   "form",
		"bigtable://i/path?" + ids:                           `"/path"`,
		"bigtable://i":                                       "project_id",
		"bigtable://i?project_id=p&table_name=t":             "family_name",
		"bigtable://i?" + ids + "&tiemout=4":                 `"tiemout"`,
		"bigtable://i?" + ids + "&timeout=4&timeout=5":       "2 times",
		"bigtable://i?" + ids + "&timeout=0":                 "timeout",
		"bigtable://i?" + ids + "&timeout=-1":                "timeout",
		"bigtable://i?" + ids + "&timeout=1e99":              "timeout",
		"bigtable://i?" + ids + "&channel_size=0":            "channel_size",
		"bigtable://i?" + ids + "&is_read_only=maybe":        "is_read_only",
		"bigtable://i?" + ids + "&project_id=%zz":            "parameters",
		"bigtable://user@i?" + ids:                           "form",
		"bigtable://i?" + ids + "#fragment":                  "form",
		"bigtable://i?project_id=p&table_name=&family_name=": "table_name",
	} {
		if got, err := parseAddress(raw); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, error %v, want %q", raw, got, err, want)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add("bigtable://i?" + ids)
	f.Add("bigtable://i?" + ids + "&channel_size=9&timeout=1.5&app_profile_id=x&is_read_only=true")
	f.Add("bigtable://i/x?project_id=%zz")
	f.Fuzz(func(t *testing.T, raw string) {
		a, err := parseAddress(raw)
		if err != nil {
			return
		}
		if a.project == "" || a.instance == "" || a.table == "" || a.family == "" || a.channels < 1 || a.timeout <= 0 {
			t.Errorf("%q is taken as %+v", raw, a)
		}
	})
}
