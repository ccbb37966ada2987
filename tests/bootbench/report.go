package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// jsonRow is the JSON form of a row.
type jsonRow struct {
	Way     string   `json:"way"`
	Machine string   `json:"machine"`
	Kernel  string   `json:"kernel"`
	Accel   string   `json:"accel"`
	Samples []sample `json:"samples"`
}

// report prints medians, and the median of the ratios to the floor, and to ours,
// of the same round.
func report(w io.Writer, o options, rows []*row, before string) error {
	if o.json {
		var list []jsonRow
		for _, r := range rows {
			list = append(list, jsonRow{r.way, r.machine, r.kernel, o.accel, r.times})
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	fmt.Fprintf(w, "medians of %d runs in turn, %s, load %s before and %s after\n", o.runs, o.accel, before, load())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "way\tmachine\tkernel\tfirst byte\t/ floor\t/ ours\tend\t/ floor\t/ ours\tguest's clock at the program's start")
	for _, r := range rows {
		find := func(way string) []sample {
			i := slices.IndexFunc(rows, func(x *row) bool { return x.way == way && x.machine == r.machine && x.kernel == r.kernel })
			return rows[i].times
		}
		floor, ours := find("floor"), find("ours")
		first := func(s sample) float64 { return s.First.Seconds() }
		end := func(s sample) float64 { return s.End.Seconds() }
		clock := func(s sample) float64 { return s.Kernel }
		show := func(f func(sample) float64) string {
			return fmt.Sprintf("%v\t%.2f\t%.2f", time.Duration(median(r.times, f)*float64(time.Second)).Round(time.Millisecond), ratio(r.times, floor, f), ratio(r.times, ours, f))
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%.3f s\n", r.way, r.machine, filepath.Base(r.kernel), show(first), show(end), median(r.times, clock))
	}
	return t.Flush()
}

func median(list []sample, f func(sample) float64) float64 {
	values := make([]float64, len(list))
	for i, s := range list {
		values[i] = f(s)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// ratio is the median of a's to b's figures, round by round.
func ratio(a, b []sample, f func(sample) float64) float64 {
	values := make([]float64, len(a))
	for i := range a {
		values[i] = f(a[i]) / f(b[i])
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
