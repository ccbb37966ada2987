package timeline

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func sample() *Timeline {
	return &Timeline{
		Version: Version, What: "6.1 <cloud>, qemu", Total: 2_000_000,
		Spans:    []Span{{"launcher", "prepare", 0, 50_000}, {"guest", "kernel & modules", 100_000, 1_500_000}},
		Marks:    []Mark{{"first output", 1_900_000}},
		Requests: []Requests{{"LOOKUP", 40, 1, 3_000}, {"READ", 2, 0, 500}}, ReadBytes: 8192,
	}
}

func TestTimeline(t *testing.T) {
	data, err := json.Marshal(sample())
	if err != nil {
		t.Fatal(err)
	}
	x, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	var table, svg, page strings.Builder
	for _, err := range []error{x.Table(&table), x.SVG(&svg), x.HTML(&page)} {
		if err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{"launcher: prepare", "1400.0 ms", "70 %", "first output", "8192 bytes read", "LOOKUP", "3.5 ms"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, table.String())
		}
	}
	d := xml.NewDecoder(strings.NewReader(svg.String()))
	rects := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the drawing is no XML: %v\n%s", err, svg.String())
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "rect" {
			rects++
		}
	}
	if rects != 3 { // with the background
		t.Errorf("%d bars", rects)
	}
	if !strings.Contains(page.String(), "<svg") || !strings.Contains(page.String(), "6.1 &lt;cloud&gt;") {
		t.Errorf("page %s", page.String())
	}
	for _, bad := range []string{`{}`, `{"version":1}`, `{"version":1,"total_us":5,"spans":[{"start_us":3,"end_us":2}]}`, `x`} {
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s passes", bad)
		}
	}
}
