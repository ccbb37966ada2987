package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"

	"storeboot/internal/bootproto"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/substitute"
)

const (
	// progressEvery is the time between two lines of --progress-fd.
	progressEvery = 200 * time.Millisecond
	// logProgressEvery is the time between two lines of the log, at least.
	logProgressEvery = 5 * time.Second
)

// fetchProgress shows on a terminal how far downloads are.
type fetchProgress struct {
	stop func()
}

// newFetchProgress begins a line on w if that is a terminal.
func newFetchProgress(w io.Writer, s *substitute.Service) *fetchProgress {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return &fetchProgress{stop: func() {}}
	}
	container := mpb.New(mpb.WithOutput(f))
	bar := container.New(0, mpb.BarStyle(),
		mpb.PrependDecorators(
			decor.Any(func(decor.Statistics) string {
				p := s.Progress()
				return fmt.Sprintf("fetch %d/%d paths ", p.PathsDone, p.PathsKnown)
			}),
			decor.CountersKibiByte("% .1f / % .1f ")),
		mpb.AppendDecorators(decor.AverageSpeed(decor.SizeB1024(0), "% .1f")))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p := s.Progress()
				bar.SetTotal(p.BytesKnown+1, false) // a full bar would end
				bar.SetCurrent(p.BytesDone)
			case <-ctx.Done():
				return
			}
		}
	})
	return &fetchProgress{stop: func() {
		cancel()
		wg.Wait()
		bar.Abort(true)
		container.Wait()
	}}
}

// end removes the line.
func (p *fetchProgress) end() { p.stop() }

// reportProgress tells to whoever started us, by lines of JSON on out unless it
// is nil, and to the log, how far the substituters are, whenever that changes. It
// ends with ctx.
func reportProgress(ctx context.Context, substitutes []*substitute.Service, out io.Writer, log *slog.Logger) {
	if len(substitutes) == 0 {
		return
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	var sent, logged substitute.Progress
	var loggedAt time.Time
	for ended := false; !ended; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			ended = true
		}
		p := sum(substitutes)
		if p != sent && out != nil {
			if line, err := json.Marshal(bootproto.FetchProgress(p)); err == nil {
				_, _ = out.Write(append(line, '\n')) // a reader that has gone is no reason to stop
			}
		}
		sent = p
		idle := p.Active == 0 && p.PathsDone+p.PathsFailed >= p.PathsKnown
		if p.BytesDone != logged.BytesDone && (idle || ended || time.Since(loggedAt) >= logProgressEvery) {
			logged, loggedAt = p, time.Now()
			log.Info("substituters", "pathsDone", p.PathsDone, "pathsKnown", p.PathsKnown, "pathsFailed", p.PathsFailed, "bytesDone", p.BytesDone, "bytesKnown", p.BytesKnown, "requests", p.Requests)
		}
	}
}

// startProgress begins to tell how far the substituters of the store are, on the
// descriptor fd unless that is negative.
func startProgress(ctx context.Context, fd int, store *storeaddr.Store, log *slog.Logger) (end func(), err error) {
	var out *os.File
	if fd >= 0 {
		out = os.NewFile(uintptr(fd), "progress-fd")
		if _, err := out.Stat(); err != nil {
			return nil, fmt.Errorf("--progress-fd %d: %w", fd, err)
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		var w io.Writer
		if out != nil {
			w = out
		}
		reportProgress(ctx, store.Substitutes(), w, log)
	})
	return func() {
		cancel()
		wg.Wait()
		if out != nil {
			_ = out.Close()
		}
	}, nil
}

// sum adds up the progress of services.
func sum(all []*substitute.Service) (total substitute.Progress) {
	for _, s := range all {
		p := s.Progress()
		total.PathsKnown += p.PathsKnown
		total.PathsDone += p.PathsDone
		total.PathsFailed += p.PathsFailed
		total.BytesKnown += p.BytesKnown
		total.BytesDone += p.BytesDone
		total.Requests += p.Requests
		total.Active += p.Active
	}
	return total
}
