package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progress shows what a build does: on a terminal a line that changes, elsewhere
// a line for each step.
type progress struct {
	w         io.Writer
	container *mpb.Progress
	bar       *mpb.Bar
	title     atomic.Value // string
	file      atomic.Value // string
	once      sync.Once
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	p.title.Store("")
	p.file.Store("")
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return p
	}
	p.container = mpb.New(mpb.WithOutput(f))
	p.bar = p.container.New(0, mpb.SpinnerStyle(),
		mpb.PrependDecorators(decor.Any(func(decor.Statistics) string { return p.title.Load().(string) })),
		mpb.AppendDecorators(decor.CurrentNoUnit("%d files "), decor.Elapsed(decor.ET_STYLE_GO), decor.Any(func(decor.Statistics) string { return " " + p.file.Load().(string) })))
	return p
}

// step begins a step.
func (p *progress) step(title string) {
	if p.bar == nil {
		fmt.Fprintf(p.w, "kernelconfig: %s\n", title)
		return
	}
	p.title.Store(title + " ")
}

// line takes a line that make printed: "  CC      kernel/fork.o".
func (p *progress) line(line string) {
	if p.bar == nil || !strings.HasPrefix(line, "  ") {
		return
	}
	fields := strings.Fields(line)
	p.file.Store(fields[len(fields)-1])
	p.bar.Increment()
}

// end removes the line. It may be called twice.
func (p *progress) end() {
	p.once.Do(func() {
		if p.bar != nil {
			p.bar.Abort(true)
			p.container.Wait()
		}
	})
}
