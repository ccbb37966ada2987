package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"text/tabwriter"
)

// better is which of two figures is the better one.
type better string

const (
	higher better = "higher"
	lower  better = "lower"
)

// row is one thing that is measured, by daemon, in the order of the rounds.
type row struct {
	Name   string               `json:"name"`
	Unit   string               `json:"unit"`
	Better better               `json:"better"`
	Values map[string][]float64 `json:"values"`
	// Failed are the daemons that could not do it, and why.
	Failed map[string]string `json:"failed,omitempty"`
}

// table is all that is measured.
type table struct {
	daemons []*daemon
	only    *regexp.Regexp
	rows    []*row
}

func newTable(daemons []*daemon, only *regexp.Regexp) *table {
	return &table{daemons: daemons, only: only}
}

func (t *table) wants(name string) bool { return t.only == nil || t.only.MatchString(name) }

func (t *table) row(name, unit string, b better) *row {
	for _, r := range t.rows {
		if r.Name == name {
			return r
		}
	}
	r := &row{Name: name, Unit: unit, Better: b, Values: map[string][]float64{}, Failed: map[string]string{}}
	t.rows = append(t.rows, r)
	return r
}

func (t *table) add(d *daemon, name, unit string, b better, v float64) {
	t.addTo(d.name, name, unit, b, v)
}

func (t *table) addTo(column, name, unit string, b better, v float64) {
	if t.wants(name) {
		r := t.row(name, unit, b)
		r.Values[column] = append(r.Values[column], v)
	}
}

func (t *table) fail(d *daemon, name, unit string, b better, err error) {
	if t.wants(name) {
		t.row(name, unit, b).Failed[d.name] = err.Error()
	}
}

// best is the best of the others' medians, and whose that is.
func (r *row) best(daemons []*daemon) (name string, value float64) {
	for _, d := range daemons {
		if d.name == "ours" || len(r.Values[d.name]) == 0 {
			continue
		}
		v := median(r.Values[d.name])
		if name == "" || (v > value) == (r.Better == higher) {
			name, value = d.name, v
		}
	}
	return name, value
}

// advantage is how many times better ours is than the best of the others; 0 if
// there is nothing to compare.
func (r *row) advantage(daemons []*daemon) float64 {
	name, value := r.best(daemons)
	if name == "" || len(r.Values["ours"]) == 0 {
		return 0
	}
	ours := median(r.Values["ours"])
	if r.Better == higher {
		return ours / value
	}
	return value / ours
}

// report prints the medians, and how ours compares.
func (t *table) report(w io.Writer, o options, before string) error {
	if o.json {
		versions := map[string]string{}
		for _, d := range t.daemons {
			versions[d.name] = d.version
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(map[string]any{"rounds": o.rounds, "load_before": before, "load_after": load(), "versions": versions, "rows": t.rows})
	}
	fmt.Fprintf(w, "medians of %d rounds in turn, load %s before and %s after\n", o.rounds, before, load())
	for _, d := range t.daemons {
		fmt.Fprintf(w, "%s: %s\n", d.name, d.version)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(tw, "\t")
	for _, d := range t.daemons {
		fmt.Fprint(tw, d.name, "\t")
	}
	fmt.Fprintln(tw, floor+"\tunit\tours is")
	for _, r := range t.rows {
		fmt.Fprint(tw, r.Name, "\t")
		for _, d := range t.daemons {
			switch v := r.Values[d.name]; {
			case r.Failed[d.name] != "":
				fmt.Fprint(tw, "fails\t")
			case len(v) == 0:
				fmt.Fprint(tw, "-\t")
			default:
				fmt.Fprint(tw, show(median(v)), "\t")
			}
		}
		if v := r.Values[floor]; len(v) > 0 {
			fmt.Fprint(tw, show(median(v)))
		}
		fmt.Fprint(tw, "\t", r.Unit, "\t")
		if a := r.advantage(t.daemons); a > 0 {
			name, _ := r.best(t.daemons)
			fmt.Fprintf(tw, "%.2fx %s", a, name)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, r := range t.rows {
		for _, d := range t.daemons {
			if why := r.Failed[d.name]; why != "" {
				fmt.Fprintf(w, "%s: %s fails: %s\n", r.Name, d.name, why)
			}
		}
	}
	return nil
}

// show prints a figure with three digits that count.
func show(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func median(values []float64) float64 {
	values = slices.Clone(values)
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
