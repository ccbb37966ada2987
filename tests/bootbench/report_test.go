package main

import (
	"bytes"
	"regexp"
	"testing"
	"time"
)

// TestReport holds that each row is compared with the floor and with ours of the
// same machine and kernel, and round by round.
func TestReport(t *testing.T) {
	seconds := func(way, kernel string, list ...int) *row {
		r := &row{way: way, machine: "q35", kernel: "/boot/" + kernel}
		for _, s := range list {
			d := time.Duration(s) * time.Second
			r.times = append(r.times, sample{First: d, End: 2 * d, Kernel: 0.5})
		}
		return r
	}
	rows := []*row{
		seconds("floor", "a", 1, 10, 2), seconds("ours", "a", 2, 20, 8), seconds("other", "a", 4, 80, 24),
		seconds("floor", "b", 1, 1, 1), seconds("ours", "b", 3, 3, 3),
	}
	var out bytes.Buffer
	if err := report(&out, options{runs: 3, accel: "tcg"}, rows, "1.0"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`floor +q35 +a +2s +1.00 +0.50 +4s +1.00 +0.50`,
		`ours +q35 +a +8s +2.00 +1.00 +16s +2.00 +1.00 +0.500 s`,
		`other +q35 +a +24s +8.00 +3.00 +48s +8.00 +3.00`,
		`ours +q35 +b +3s +3.00 +1.00`,
	} {
		if !regexp.MustCompile(`(?m)^` + line).MatchString(out.String()) {
			t.Errorf("no line %q in\n%s", line, &out)
		}
	}
}

// TestWatch holds that the first byte is known also if the greeting comes in
// pieces, after other output.
func TestWatch(t *testing.T) {
	w := &watch{start: time.Now().Add(-time.Hour)}
	for _, piece := range []string{"u-root banner\n", "He"} {
		_, _ = w.Write([]byte(piece))
	}
	if w.first != 0 {
		t.Error("the greeting has not come yet")
	}
	_, _ = w.Write([]byte("llo, world! 1.250\r\n"))
	if m := greeting.FindSubmatch(w.text); w.first < time.Hour || m == nil || string(m[1]) != "1.250" {
		t.Errorf("first %v, text %q", w.first, w.text)
	}
}
