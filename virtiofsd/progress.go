package main

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows how many bytes were read, on a terminal. Its zero value shows
// nothing.
type progress struct {
	container *mpb.Progress
	bar       *mpb.Bar
	paths     atomic.Int64
}

// newProgress begins a line on w if that is a terminal. total is in bytes; 0 if
// it is not known.
func newProgress(w io.Writer, title string, total int64) *progress {
	return newCountedProgress(w, title, total, 0)
}

// newCountedProgress also counts store paths, unless paths is 0.
func newCountedProgress(w io.Writer, title string, total int64, paths int) *progress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &progress{}
	}
	p := &progress{container: mpb.New(mpb.WithOutput(f))}
	counter := decor.CurrentKibiByte(" % .1f")
	style := mpb.BarFillerBuilder(mpb.SpinnerStyle())
	if total > 0 {
		counter, style = decor.CountersKibiByte(" % .1f / % .1f "), mpb.BarStyle()
	}
	before := []decor.Decorator{decor.Name(printable(title))}
	if paths > 0 {
		before = append(before, decor.Any(func(decor.Statistics) string { return fmt.Sprintf(" %d/%d paths", p.paths.Load(), paths) }))
	}
	p.bar = p.container.New(total, style,
		mpb.PrependDecorators(append(before, counter)...),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
	return p
}

// path is called when a store path is done.
func (p *progress) path() { p.paths.Add(1) }

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
