package treemap

import (
	"bufio"
	"fmt"
	"html"
	"io"
	"strings"
	"unicode/utf8"
)

const (
	width, height = 1600, 900
	header        = 16  // of a directory's rectangle, for its name
	smallest      = 3   // side below which nothing is drawn
	letter        = 6.5 // width of one in the font
)

// WritePage writes n, which is sorted, as an HTML page. Label says a size in
// words.
func WritePage(w io.Writer, title string, n *Node, label func(int64) string) error {
	b := bufio.NewWriter(w)
	t := html.EscapeString(title)
	fmt.Fprintf(b, `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>%s</title>
<style>
body { margin: 1em; font: 14px sans-serif }
svg { width: 100%%; height: auto; font: 11px monospace }
rect { stroke: #fff; stroke-width: .5 }
rect:hover { stroke: #000; stroke-width: 1.5 }
text { pointer-events: none }
</style></head><body>
<h1>%s: %s</h1>
<svg viewBox="0 0 %d %d" xmlns="http://www.w3.org/2000/svg">
`, t, t, html.EscapeString(label(n.Size)), width, height)
	p := page{w: b, label: label}
	p.inside(n, "", Rect{0, 0, width, height}, 0)
	fmt.Fprint(b, "</svg>\n</body></html>\n")
	return b.Flush()
}

type page struct {
	w     *bufio.Writer
	label func(int64) string
}

// inside draws what is in a directory.
func (p *page) inside(n *Node, path string, r Rect, depth int) {
	sizes := make([]int64, len(n.Children))
	for i, c := range n.Children {
		sizes[i] = c.Size
	}
	for i, q := range squarify(sizes, r) {
		if q.W < smallest || q.H < smallest {
			continue
		}
		p.draw(n.Children[i], path+"/"+n.Children[i].Name, q, depth, i)
	}
}

func (p *page) draw(n *Node, path string, r Rect, depth, index int) {
	dir := len(n.Children) > 0
	// The hue goes round with the place, so that neighbours differ.
	color := fmt.Sprintf("hsl(%d 45%% %d%%)", (index*47+depth*23)%360, max(88-6*depth, 55))
	fmt.Fprintf(p.w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" fill="%s"><title>%s: %s</title></rect>`+"\n",
		r.X, r.Y, r.W, r.H, color, html.EscapeString(clean(path)), html.EscapeString(p.label(n.Size)))
	if r.H >= header && r.W > 4*letter {
		text := clean(n.Name)
		if full := text + " " + p.label(n.Size); float64(utf8.RuneCountInString(full))*letter < r.W-6 {
			text = full
		}
		fmt.Fprintf(p.w, `<text x="%.1f" y="%.1f">%s</text>`+"\n", r.X+3, r.Y+12, html.EscapeString(cut(text, int((r.W-6)/letter))))
	}
	if dir && r.H > 2*header && r.W > 2*smallest {
		p.inside(n, path, Rect{r.X + 2, r.Y + header, r.W - 4, r.H - header - 2}, depth+1)
	}
}

// clean makes a name valid text for a page.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return utf8.RuneError
		}
		return r
	}, strings.ToValidUTF8(s, string(utf8.RuneError)))
}

func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:max(n-1, 0)]) + "…"
}
