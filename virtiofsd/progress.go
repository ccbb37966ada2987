package main

import (
	"io"
	"os"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how many bytes were read, on a terminal. Its zero value shows
// nothing.
type progress struct {
	container *mpb.Progress
	bar       *mpb.Bar
}

// newProgress begins a line on w if that is a terminal. total is in bytes; 0 if
// it is not known.
func newProgress(w io.Writer, title string, total int64) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	p := mpb.New(mpb.WithOutput(f))
	counter := decor.CurrentKibiByte(" % .1f")
	style := mpb.BarFillerBuilder(mpb.SpinnerStyle())
	if total > 0 {
		counter, style = decor.CountersKibiByte(" % .1f / % .1f "), mpb.BarStyle()
	}
	bar := p.New(total, style,
		mpb.PrependDecorators(decor.Name(printable(title)), counter),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
	return &progress{p, bar}
}

// add is called with what was read since the last call.
func (p *progress) add(_, bytes int64) {
	if p.bar != nil {
		p.bar.IncrInt64(bytes)
	}
}

// end removes the line.
func (p *progress) end() {
	if p.bar != nil {
		p.bar.Abort(true)
		p.container.Wait()
	}
}
