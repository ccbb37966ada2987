package cli

import "testing"

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "1023": 1023, "1K": 1 << 10, "16M": 16 << 20, "1G": 1 << 30, "2T": 2 << 40, "1024K": 1 << 20, "9223372036854775807": 1<<63 - 1} {
		var s Size
		if err := s.Set(text); err != nil || int64(s) != want {
			t.Errorf("%q = %d, %v, want %d", text, s, err, want)
		}
		again := Size(0)
		if err := again.Set(s.String()); err != nil || again != s {
			t.Errorf("%q is printed as %s, which is %d, %v", text, s.String(), again, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "K", "1k", "1.5G", "1KB", "9223372036854775808", "9007199254740992K", "8388608T"} {
		s := Size(7)
		if err := s.Set(text); err == nil || s != 7 {
			t.Errorf("%q = %d, %v", text, s, err)
		}
	}
}
