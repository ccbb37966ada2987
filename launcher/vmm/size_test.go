package vmm

import (
	"strings"
	"testing"
)

func TestParseSize(t *testing.T) {
	tests := []struct {
		text string
		want Size
		err  string
		back string // String, if other than text
	}{
		{"512M", 512 * mib, "", ""},
		{"384m", 384 * mib, "", "384M"},
		{"2G", 2 << 30, "", ""},
		{"1T", 1 << 40, "", "1024G"},
		{"131072K", 128 * mib, "", "128M"},
		{"134217728", 128 * mib, "", "128M"},
		{"64M", 64 * mib, "", ""},
		{"63M", 0, "too little: want 64M", ""},
		{"512", 0, "did you mean 512M", ""},
		{"100000000", 0, "whole MiB", ""},
		{"65537K", 0, "whole MiB", ""},
		{"lots", 0, "not a size", ""},
		{"", 0, "not a size", ""},
		{"M", 0, "not a size", ""},
		{"-1G", 0, "not a size", ""},
		{"1.5G", 0, "not a size", ""},
		{"1GM", 0, "more than one suffix", ""},
		{"99999999999999999999", 0, "not a size", ""},
		{"9999999999T", 0, "too large", ""},
		{"128T", 0, "too large", ""},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			got, err := ParseSize(tt.text)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if err != nil {
				return
			}
			back := tt.back
			if back == "" {
				back = tt.text
			}
			if got != tt.want || got.String() != back {
				t.Errorf("%d (%s), want %d (%s)", got, got, tt.want, back)
			}
		})
	}
}

// FuzzParseSize holds that what is accepted is possible and reads back.
func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"512M", "1G", "134217728", "7x", "99999999999999999999K"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseSize(s)
		if err != nil {
			return
		}
		if again, err := ParseSize(v.String()); err != nil || again != v {
			t.Errorf("%q is %d, which reads back as %d, %v", s, v, again, err)
		}
	})
}
