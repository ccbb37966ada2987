package treemap

import (
	"bufio"
	"cmp"
	"fmt"
	"html"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	width, height = 1600, 900
	header        = 17  // of a directory's rectangle, for its name
	smallest      = 2   // side below which nothing is drawn
	letter        = 6.7 // width of one in the font
	listed        = 25  // files in the table of the largest
)

// style has a colour for each kind, on light and on dark screens.
const style = `:root { color-scheme: light dark; --back: #fff; --text: #1b1b1b; --soft: #666; --dir: #eceff1; --line: #b0b7bc;
 --p: #8fb8de; --l: #a5d0a8; --m: #f0c987; --f: #d6a5c9; --o: #c9c5b1 }
@media (prefers-color-scheme: dark) { :root { --back: #16191c; --text: #e8e8e8; --soft: #9aa0a6; --dir: #262b30; --line: #4a5157;
 --p: #33628f; --l: #3b7542; --m: #8a6420; --f: #7d4470; --o: #5c594a } }
body { margin: 1.2em auto; max-width: 1640px; padding: 0 1em; font: 14px/1.45 system-ui, sans-serif; background: var(--back); color: var(--text) }
h1 { font-size: 1.35em; margin: 0 0 .2em; overflow-wrap: anywhere }
p { margin: .2em 0 .8em; color: var(--soft) }
.k { margin-right: 1.4em; white-space: nowrap; color: var(--text) }
.k i { display: inline-block; width: .9em; height: .9em; margin-right: .4em; vertical-align: -.1em; border-radius: 2px }
svg { display: block; width: 100%; height: auto; font: 11px ui-monospace, monospace }
rect { stroke: var(--back); stroke-width: 1 }
rect.d { fill: var(--dir); stroke: var(--line); stroke-width: .6 }
rect:hover { stroke: var(--text); stroke-width: 2 }
text { pointer-events: none; fill: var(--text) }
.p { fill: var(--p); background: var(--p) } .l { fill: var(--l); background: var(--l) } .m { fill: var(--m); background: var(--m) }
.f { fill: var(--f); background: var(--f) } .o { fill: var(--o); background: var(--o) }
table { border-collapse: collapse; margin-top: 1.2em } caption { text-align: left; font-weight: 600; padding-bottom: .3em }
td { padding: .15em .9em .15em 0; overflow-wrap: anywhere } td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums }
`

// WritePage writes n, which is sorted, as an HTML page: the map, what the kinds
// of files take, and the largest files. Label says a size in words, about is a
// line of text below the title.
func WritePage(w io.Writer, title, about string, n *Node, label func(int64) string) error {
	b := bufio.NewWriter(w)
	p := page{w: b, label: label, total: n.Size}
	t := html.EscapeString(clean(title))
	fmt.Fprintf(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>%s</title>\n<style>\n%s</style></head><body>\n", t, style)
	fmt.Fprintf(b, "<h1>%s: %s</h1>\n<p>%s</p>\n", t, html.EscapeString(label(n.Size)), html.EscapeString(clean(about)))
	files := leaves(n, "")
	p.legend(files)
	fmt.Fprintf(b, `<svg viewBox="0 0 %d %d" xmlns="http://www.w3.org/2000/svg">`+"\n", width, height)
	p.inside(n, "", Rect{0, 0, width, height})
	fmt.Fprint(b, "</svg>\n")
	p.table(files)
	fmt.Fprint(b, "</body></html>\n")
	return b.Flush()
}

type page struct {
	w     *bufio.Writer
	label func(int64) string
	total int64
}

// share is the part of all that size is, with its size: "1.2 MiB, 3.4%".
func (p *page) share(size int64) string {
	return fmt.Sprintf("%s, %.1f%%", p.label(size), 100*float64(size)/float64(max(p.total, 1)))
}

func (p *page) legend(files []leaf) {
	sums := map[kind]int64{}
	for _, f := range files {
		sums[kindOf(f.path)] += f.size
	}
	fmt.Fprint(p.w, "<p>")
	for _, k := range kinds {
		if sums[k] > 0 {
			fmt.Fprintf(p.w, `<span class="k"><i class="%s"></i>%s: %s</span>`+"\n", k.class, k.name, html.EscapeString(p.share(sums[k])))
		}
	}
	fmt.Fprint(p.w, "</p>\n")
}

// table lists the largest files.
func (p *page) table(files []leaf) {
	slices.SortStableFunc(files, func(a, b leaf) int { return cmp.Compare(b.size, a.size) })
	fmt.Fprint(p.w, "<table><caption>The largest files</caption>\n")
	for _, f := range files[:min(len(files), listed)] {
		if f.size > 0 {
			fmt.Fprintf(p.w, `<tr><td class="n">%s</td><td class="n">%.1f%%</td><td>%s</td></tr>`+"\n", html.EscapeString(p.label(f.size)),
				100*float64(f.size)/float64(max(p.total, 1)), html.EscapeString(clean(f.path)))
		}
	}
	fmt.Fprint(p.w, "</table>\n")
}

// inside draws what is in a directory.
func (p *page) inside(n *Node, path string, r Rect) {
	sizes := make([]int64, len(n.Children))
	for i, c := range n.Children {
		sizes[i] = c.Size
	}
	for i, q := range squarify(sizes, r) {
		if q.W < smallest || q.H < smallest {
			continue
		}
		p.draw(n.Children[i], path+"/"+n.Children[i].Name, q)
	}
}

func (p *page) draw(n *Node, path string, r Rect) {
	name := n.Name
	// A directory with nothing but a directory in it is one box with it.
	for len(n.Children) == 1 && len(n.Children[0].Children) > 0 {
		n = n.Children[0]
		name, path = name+"/"+n.Name, path+"/"+n.Name
	}
	class := "d"
	if len(n.Children) == 0 {
		class = kindOf(path).class
	} else {
		name += "/"
	}
	fmt.Fprintf(p.w, `<rect x="%.1f" y="%.1f" width="%.1f" height="%.1f" class="%s"><title>%s: %s</title></rect>`+"\n",
		r.X, r.Y, r.W, r.H, class, html.EscapeString(clean(path)), html.EscapeString(p.share(n.Size)))
	if r.H >= header && r.W > 4*letter {
		text := clean(name)
		if full := text + " " + p.label(n.Size); float64(utf8.RuneCountInString(full))*letter < r.W-6 {
			text = full
		}
		fmt.Fprintf(p.w, `<text x="%.1f" y="%.1f">%s</text>`+"\n", r.X+4, r.Y+12.5, html.EscapeString(cut(text, int((r.W-6)/letter))))
	}
	if len(n.Children) > 0 && r.H > 2*header && r.W > 2*smallest {
		p.inside(n, path, Rect{r.X + 2, r.Y + header, r.W - 4, r.H - header - 2})
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
