package treemap

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
)

func TestSquarify(t *testing.T) {
	sizes := []int64{500, 300, 100, 60, 30, 9, 1, 0, 0}
	r := Rect{10, 20, 300, 200}
	got := squarify(sizes, r)
	if len(got) != len(sizes) {
		t.Fatalf("%d places for %d sizes", len(got), len(sizes))
	}
	for i, q := range got {
		if want := float64(sizes[i]) * 60; math.Abs(q.W*q.H-want) > 1e-6 {
			t.Errorf("%d: area %g, want %g", i, q.W*q.H, want)
		}
		if q.X < r.X-1e-9 || q.Y < r.Y-1e-9 || q.X+q.W > r.X+r.W+1e-6 || q.Y+q.H > r.Y+r.H+1e-6 {
			t.Errorf("%d: %+v is outside %+v", i, q, r)
		}
		for j, p := range got[:i] {
			if w, h := min(p.X+p.W, q.X+q.W)-max(p.X, q.X), min(p.Y+p.H, q.Y+q.H)-max(p.Y, q.Y); w > 1e-6 && h > 1e-6 {
				t.Errorf("%d and %d overlap", i, j)
			}
		}
	}
	for _, s := range [][]int64{nil, {0, 0}, {5}} {
		if got := squarify(s, r); len(got) != len(s) {
			t.Errorf("%v: %v", s, got)
		}
	}
}

func TestKinds(t *testing.T) {
	for path, want := range map[string]kind{
		"/init": program, "/bin/x": program, "/usr/sbin/a.b": program, "/lib/x.so": library, "/usr/lib/libc.so.6": library,
		"/lib/modules/1/a.ko": module, "/lib/modules/1/kernel/b.ko.zst": module, "/lib/modules/1/a.kovrt": other, "/lib/firmware/x/y": firmware,
		"/kernel/x86/microcode/AuthenticAMD.bin": firmware, "/etc/passwd": other, "": other,
	} {
		if got := kindOf(path); got != want {
			t.Errorf("%s: %s, want %s", path, got.name, want.name)
		}
	}
}

// TestPage holds that names do not become markup, and that nothing is loaded.
func TestPage(t *testing.T) {
	n := &Node{}
	n.Add("usr/bin/<script>alert(1)</script>", 1000)
	n.Add("usr/\xff\x01&\"quoted\"", 900)
	n.Add("empty", 0)
	n.Sort()
	if n.Size != 1900 || n.Children[0].Name != "usr" || n.Children[0].Size != 1900 {
		t.Fatalf("%+v", n)
	}
	var b bytes.Buffer
	if err := WritePage(&b, "<b>", "<i>", n, func(v int64) string { return fmt.Sprint(v, " B") }); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	if strings.Contains(page, "<script") || strings.Contains(page, "<b>") || strings.Contains(page, "<p><i>") || !strings.Contains(page, "1900 B") {
		t.Errorf("page %s", page)
	}
	for _, bad := range []string{"src=", "href=", "@import", "url("} {
		if strings.Contains(page, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	svg := page[strings.Index(page, "<svg"):strings.Index(page, "</body>")]
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
