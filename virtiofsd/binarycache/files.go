package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"
)

// ErrNotFound is what is returned, wrapped, for a file or path that the cache
// does not have.
var ErrNotFound = errors.New("not in the binary cache")

// files are the files of a cache: one request per call, without repeats. Keys
// are as narinfos have them: relative to the cache, or whole URLs.
type files interface {
	// open opens a file at an offset. One that cannot begin there begins
	// elsewhere, which the result says. tag, if not empty, is that of the
	// contents that the offset is of.
	open(ctx context.Context, key string, offset int64, tag string) (*opened, error)
	exists(ctx context.Context, key string) (bool, error)
	// write stores a file, whole or not at all.
	write(ctx context.Context, key, contentType string, size int64, body io.Reader) error
	close() error
}

// opened is an open file.
type opened struct {
	body   io.ReadCloser
	offset int64  // where body begins
	size   int64  // of the whole file, -1 if unknown
	tag    string // of the contents, empty if unknown
	// encoding is what the body is compressed with beyond what the file is;
	// empty: nothing.
	encoding string
}

// permanentError is one that a repeat cannot mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

func permanent(err error) bool {
	var p permanentError
	return errors.Is(err, ErrNotFound) || errors.As(err, &p)
}

// unreachableError is that a cache gave no proper answer, however often it was
// asked.
type unreachableError struct{ error }

func (e unreachableError) Unwrap() error { return e.error }

// Unreachable says whether err is that the cache gave no proper answer: it cannot
// be reached, stalls or is out of order. Then it makes no sense to ask it for
// something else at once.
func Unreachable(err error) bool {
	var u unreachableError
	return errors.As(err, &u)
}

// laterError is one with a time at which a repeat makes sense.
type laterError struct {
	error
	after time.Duration
}

func (e laterError) Unwrap() error { return e.error }

const (
	// firstPause is before the first repeat; each further one is twice as long.
	// Half of a pause is random.
	firstPause = 200 * time.Millisecond
	// maxPause is the longest pause, also where the cache asks for more.
	maxPause = 30 * time.Second
)

// pauser waits between repeats.
type pauser struct {
	retries int
	failed  int // repeats so far
}

// pause waits before a repeat. It returns err, with how often it came, if there
// is to be none.
func (p *pauser) pause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if permanent(err) {
		return err
	}
	if p.failed >= p.retries {
		if p.failed > 0 {
			err = fmt.Errorf("%w (%d times)", err, p.failed+1)
		}
		return unreachableError{err}
	}
	d := min(firstPause<<p.failed, maxPause)
	d = d/2 + rand.N(d/2+1)
	var later laterError
	if errors.As(err, &later) {
		d = min(max(d, later.after), maxPause)
	}
	p.failed++
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// repeat calls f until it succeeds, fails for good or has failed often enough.
func repeat(ctx context.Context, retries int, f func() error) error {
	p := pauser{retries: retries}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if err := p.pause(ctx, err); err != nil {
			return err
		}
	}
}
