package main

import (
	"bytes"
	"encoding/json"
	"regexp"
	"testing"
)

// TestReport holds that ours is compared with the best of those that did it, the
// right way round.
func TestReport(t *testing.T) {
	ours, a, b := &daemon{name: "ours"}, &daemon{name: "A", version: "A 1.0"}, &daemon{name: "B"}
	rows := newTable([]*daemon{ours, a, b}, nil)
	add := func(name string, better better, values ...float64) {
		for i, d := range rows.daemons {
			for _, v := range values[3*i:][:3] {
				rows.add(d, name, "x", better, v)
			}
		}
	}
	add("rate", higher, 1, 300, 40, 5, 20, 20, 10, 10, 10)
	add("time", lower, 3, 3, 3, 6, 6, 6, 12, 12, 12)
	rows.add(ours, "walk", "x", higher, 7)
	rows.fail(a, "walk", "x", higher, bytes.ErrTooLarge)
	rows.addTo(floor, "rate", "x", higher, 250)
	var out bytes.Buffer
	if err := rows.report(&out, options{rounds: 3}, "1.0"); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`A: A 1.0`,
		`rate +40.0 +20.0 +10.0 +250 +x +2.00x A`,
		`time +3.00 +6.00 +12.0 +x +2.00x A`,
		`walk +7.00 +fails +- +x *`,
		`walk: A fails: ` + bytes.ErrTooLarge.Error(),
	} {
		if !regexp.MustCompile(`(?m)^` + line + `$`).MatchString(out.String()) {
			t.Errorf("no line %q in\n%s", line, &out)
		}
	}
	out.Reset()
	if err := rows.report(&out, options{rounds: 3, json: true}, "1.0"); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Rows     []row
		Versions map[string]string
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 3 || len(got.Rows[0].Values["ours"]) != 3 || got.Rows[2].Failed["A"] == "" || got.Versions["A"] == "" {
		t.Errorf("%+v", got)
	}
}
