// Package timeline shows where the time of a boot went: as a table, as SVG and
// as HTML.
package timeline

import (
	"encoding/json"
	"fmt"
	"html"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// Version of [Timeline] as JSON.
const Version = 1

// Timeline is one boot. All times are in microseconds since the launcher began
// with the VM.
type Timeline struct {
	Version int `json:"version"`
	// What says which boot: kernel, monitor, accelerator, machine.
	What  string `json:"what"`
	Spans []Span `json:"spans"`
	Marks []Mark `json:"marks"`
	Total int64  `json:"total_us"`
	// Requests are what the guest asked of the store, by opcode; none if the
	// daemon does not tell. ReadBytes are contents of files that it was given.
	Requests  []Requests `json:"requests,omitempty"`
	ReadBytes uint64     `json:"read_bytes,omitempty"`
}

// Requests are those of one FUSE opcode.
type Requests struct {
	Opcode string `json:"opcode"`
	Count  uint64 `json:"count"`
	Errors uint64 `json:"errors"`
	// Took is the time of all together, from taking a request to its answer, in
	// microseconds. Queues work at the same time, so it may be more than the boot's.
	Took uint64 `json:"took_us"`
}

// Span is a stretch of time of one part.
type Span struct {
	Part  string `json:"part"` // such as "launcher" or "init"
	Name  string `json:"name"`
	Start int64  `json:"start_us"`
	End   int64  `json:"end_us"`
}

// Mark is a moment.
type Mark struct {
	Name string `json:"name"`
	At   int64  `json:"at_us"`
}

// Parse reads JSON that a launcher wrote.
func Parse(data []byte) (*Timeline, error) {
	t := new(Timeline)
	if err := json.Unmarshal(data, t); err != nil {
		return nil, fmt.Errorf("timeline: %w", err)
	}
	if t.Version != Version {
		return nil, fmt.Errorf("timeline: version %d, this program reads version %d", t.Version, Version)
	}
	if t.Total <= 0 {
		return nil, fmt.Errorf("timeline: a total of %d us", t.Total)
	}
	for _, s := range t.Spans {
		if s.Start < 0 || s.End < s.Start {
			return nil, fmt.Errorf("timeline: %s %s from %d to %d us", s.Part, s.Name, s.Start, s.End)
		}
	}
	return t, nil
}

// Table writes one line for each span and mark, in order.
func (t *Timeline) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "%s\n", t.What)
	fmt.Fprintf(tw, "start\ttook\tshare\t  what\n")
	for _, s := range t.Spans {
		took := s.End - s.Start
		fmt.Fprintf(tw, "%s\t%s\t%d %%\t  %s: %s\n", ms(s.Start), ms(took), 100*took/t.Total, s.Part, s.Name)
	}
	for _, m := range t.Marks {
		fmt.Fprintf(tw, "%s\t\t\t  %s\n", ms(m.At), m.Name)
	}
	fmt.Fprintf(tw, "%s\t%s\t100 %%\t  in all\n", ms(0), ms(t.Total))
	if len(t.Requests) > 0 {
		fmt.Fprintf(tw, "\nrequests\terrors\ttook\t  of the store, %d bytes read\n", t.ReadBytes)
		var all Requests
		for _, r := range t.Requests {
			fmt.Fprintf(tw, "%d\t%d\t%s\t  %s\n", r.Count, r.Errors, ms(int64(r.Took)), r.Opcode)
			all.Count, all.Errors, all.Took = all.Count+r.Count, all.Errors+r.Errors, all.Took+r.Took
		}
		fmt.Fprintf(tw, "%d\t%d\t%s\t  in all\n", all.Count, all.Errors, ms(int64(all.Took)))
	}
	return tw.Flush()
}

func ms(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1000) }

// Layout of the drawing, in pixels.
const (
	width    = 1000
	left     = 260 // of the names
	right    = 90  // of the times
	row      = 22
	top      = 56
	barInset = 4
)

// colours by part, in the order of their first span.
var colours = []string{"#4878a8", "#d08840", "#5a9a68", "#b05a78", "#7868a8", "#8a7a50", "#508a9a"}

// SVG draws the spans as bars over a scale.
func (t *Timeline) SVG(w io.Writer) error {
	var b strings.Builder
	height := top + row*len(t.Spans) + row*((len(t.Marks)+1)/2) + 24
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	fmt.Fprintf(&b, `<text x="10" y="20" font-size="14" font-weight="bold">%s</text>`+"\n", html.EscapeString(t.What))
	scale := func(us int64) float64 { return left + float64(us)/float64(t.Total)*(width-left-right) }
	bottom := top + row*len(t.Spans)
	step := niceStep(t.Total)
	for at := int64(0); at <= t.Total; at += step {
		x := scale(at)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/>`+"\n", x, top-8, x, bottom)
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle" fill="#666">%v</text>`+"\n", x, top-14, time.Duration(at)*time.Microsecond)
	}
	seen := map[string]string{}
	for i, s := range t.Spans {
		if seen[s.Part] == "" {
			seen[s.Part] = colours[len(seen)%len(colours)]
		}
		y := top + i*row
		x, wide := scale(s.Start), max(scale(s.End)-scale(s.Start), 1)
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s: %s</text>`+"\n", left-8, y+15, html.EscapeString(s.Part), html.EscapeString(s.Name))
		fmt.Fprintf(&b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="%s"><title>%s to %s</title></rect>`+"\n", x, y+barInset, wide, row-2*barInset, seen[s.Part], ms(s.Start), ms(s.End))
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" fill="#444">%s</text>`+"\n", min(x+wide+5, width-right+5), y+15, ms(s.End-s.Start))
	}
	for i, m := range t.Marks {
		x := scale(m.At)
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#c03030" stroke-dasharray="3 3"/>`+"\n", x, top-4, x, bottom)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="#c03030">%s at %s</text>`+"\n", 10+(i%2)*width/2, bottom+18+row*(i/2), html.EscapeString(m.Name), ms(m.At))
	}
	b.WriteString("</svg>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// niceStep is the distance of the scale's lines: about ten, of 1, 2 or 5 times a
// power of ten.
func niceStep(total int64) int64 {
	step := int64(1)
	for {
		for _, n := range []int64{1, 2, 5} {
			if total/(step*n) <= 10 {
				return step * n
			}
		}
		step *= 10
	}
}

// HTML is a page with the drawing and the table.
func (t *Timeline) HTML(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title></head>\n<body style=\"font-family: sans-serif; margin: 1em\">\n", html.EscapeString(t.What))
	if err := t.SVG(&b); err != nil {
		return err
	}
	b.WriteString("<pre>\n")
	var table strings.Builder
	if err := t.Table(&table); err != nil {
		return err
	}
	b.WriteString(html.EscapeString(table.String()))
	b.WriteString("</pre>\n</body></html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}
