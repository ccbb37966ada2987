package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"storeboot/internal/bootproto"
	"storeboot/launcher/session"
)

// fetching shows on a terminal what the store daemon fetches, until the guest
// has something to say. Its zero value shows nothing.
type fetching struct {
	last atomic.Pointer[bootproto.FetchProgress]
	once sync.Once

	mu        sync.Mutex
	container *mpb.Progress // nil until there is something to show
	bar       *mpb.Bar
	ended     bool
	terminal  *os.File
}

// newFetching shows on w if that is a terminal.
func newFetching(w io.Writer) *fetching {
	f := &fetching{}
	if session.IsTerminal(w) {
		f.terminal, _ = w.(*os.File)
	}
	return f
}

// show takes news.
func (f *fetching) show(p bootproto.FetchProgress) {
	f.last.Store(&p)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.terminal == nil || f.ended || p.PathsKnown == 0 {
		return
	}
	if f.bar == nil {
		f.container = mpb.New(mpb.WithOutput(f.terminal))
		f.bar = f.container.New(0, mpb.BarStyle(),
			mpb.PrependDecorators(
				decor.Any(func(decor.Statistics) string {
					p := f.last.Load()
					return fmt.Sprintf("fetch %d/%d paths ", p.PathsDone, p.PathsKnown)
				}),
				decor.CountersKibiByte("% .1f / % .1f ")),
			mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
	}
	f.bar.SetTotal(p.BytesKnown+1, false) // a full bar would end
	f.bar.SetCurrent(p.BytesDone)
}

// end removes the line for good. It may be called many times.
func (f *fetching) end() {
	f.once.Do(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ended = true
		if f.bar != nil {
			f.bar.Abort(true)
			f.container.Wait()
		}
	})
}

// summary says what was fetched; "" if nothing was.
func (f *fetching) summary() string {
	p := f.last.Load()
	if p == nil || p.Requests == 0 {
		return ""
	}
	text := fmt.Sprintf("fetched %d paths, %d bytes, in %d requests", p.PathsDone, p.BytesDone, p.Requests)
	if p.PathsFailed > 0 {
		text += fmt.Sprintf("; %d paths failed", p.PathsFailed)
	}
	return text
}

// until ends the line at the first write to w.
func (f *fetching) until(w io.Writer) io.Writer {
	if f.terminal == nil {
		return w
	}
	return untilWriter{f, w}
}

type untilWriter struct {
	f *fetching
	w io.Writer
}

func (u untilWriter) Write(p []byte) (int, error) {
	u.f.end()
	return u.w.Write(p)
}
