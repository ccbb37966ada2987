package binarycache

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// minProgress is what a transfer has to bring within the stall limit, in bytes,
// unless it ends.
const minProgress = 16 << 10

// watch ends a request that takes too long.
type watch struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	timer  *time.Timer
	since  int           // bytes since waited was 0
	waited time.Duration // for those
}

// newWatch begins to wait for an answer.
func newWatch(ctx context.Context, timeout, stall time.Duration) *watch {
	w := &watch{stall: stall}
	w.ctx, w.cancel = context.WithCancelCause(ctx)
	w.timer = time.AfterFunc(timeout, func() { w.cancel(fmt.Errorf("no answer within %v", timeout)) })
	return w
}

// answered ends the wait for an answer.
func (w *watch) answered() { w.timer.Stop() }

// end frees what the watch holds.
func (w *watch) end() {
	w.timer.Stop()
	w.cancel(nil)
}

// err is why a request failed: the limit, if that was passed.
func (w *watch) err(err error) error {
	if err != nil && w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	return err
}

// watchedBody reads the body of an answer. The time that its reader takes does
// not count.
type watchedBody struct {
	*watch
	body io.ReadCloser
	once sync.Once
}

func (b *watchedBody) Read(p []byte) (int, error) {
	stop := time.AfterFunc(b.stall-b.waited, func() {
		b.cancel(fmt.Errorf("less than %d bytes came within %v", minProgress, b.stall))
	})
	begin := time.Now()
	n, err := b.body.Read(p)
	stop.Stop()
	b.waited += time.Since(begin)
	if b.since += n; b.since >= minProgress {
		b.since, b.waited = 0, 0
	}
	if err != io.EOF {
		err = b.err(err)
	}
	return n, err
}

func (b *watchedBody) Close() error {
	var err error
	b.once.Do(func() {
		err = b.body.Close()
		b.end()
	})
	return err
}

// watchedUpload is the body of an upload: one that nobody reads on ends it.
type watchedUpload struct {
	*watch
	body io.Reader
}

func (u *watchedUpload) Read(p []byte) (int, error) {
	// What was read is on its way for as long as this is not called again.
	u.timer.Reset(u.stall)
	return u.body.Read(p[:min(len(p), 1<<20)])
}
