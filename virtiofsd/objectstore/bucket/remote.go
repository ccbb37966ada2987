package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path"
	"time"
)

const (
	// defaultTimeout is how long a request may take, beside the time for what
	// is transferred. It is the default of snix.
	defaultTimeout = 30 * time.Second
	// minRate is the slowest transfer that is waited for, in bytes a second.
	minRate = 64 << 10
	// attempts is how often a request is made in all.
	attempts = 4
	// firstPause is the pause before the second attempt; each further one is
	// twice as long. Half of a pause is random.
	firstPause = 200 * time.Millisecond
)

// objects is what a remote store does: one request per call, without limits of
// time and repeats. Keys are whole, with the prefix.
type objects interface {
	// read opens an object, or returns ErrNotFound. size is -1 if unknown.
	read(ctx context.Context, key string) (body io.ReadCloser, size int64, err error)
	exists(ctx context.Context, key string) (bool, error)
	write(ctx context.Context, key string, data []byte) error
	// permanent says that a repeat cannot mend err.
	permanent(err error) bool
	close() error
}

// remote makes a [Bucket] of the objects of a remote store.
type remote struct {
	objects objects
	name    string
	prefix  string
	timeout time.Duration
	pause   time.Duration
}

func newRemote(o objects, a Address) *remote {
	return &remote{objects: o, name: a.String(), prefix: a.Prefix, timeout: a.timeout, pause: firstPause}
}

func (r *remote) String() string                  { return r.name }
func (r *remote) Flush(ctx context.Context) error { return ctx.Err() }
func (r *remote) Close() error                    { return r.objects.close() }

func (r *remote) Get(ctx context.Context, key string, limit int64) (data []byte, err error) {
	err = r.do(ctx, "get", key, func(ctx context.Context, key string, budget *budget) error {
		body, size, err := r.objects.read(ctx, key)
		if err != nil {
			return err
		}
		defer body.Close()
		if size > limit {
			return tooLarge{size, limit}
		}
		data, err = readAll(body, size, limit, budget)
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// readAll reads a body of size bytes, or of unknown size if size is negative.
func readAll(body io.Reader, size, limit int64, budget *budget) ([]byte, error) {
	data := make([]byte, 0, max(min(size, 1<<20), 4096))
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := body.Read(data[len(data):min(cap(data), len(data)+1<<20)])
		data = data[:len(data)+n]
		budget.transferred(n)
		switch {
		case int64(len(data)) > limit:
			return nil, tooLarge{int64(len(data)), limit}
		case err == io.EOF && size >= 0 && int64(len(data)) < size:
			return nil, io.ErrUnexpectedEOF
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		}
	}
}

func (r *remote) Exists(ctx context.Context, key string) (exists bool, err error) {
	err = r.do(ctx, "look for", key, func(ctx context.Context, key string, _ *budget) error {
		exists, err = r.objects.exists(ctx, key)
		return err
	})
	return exists, err
}

func (r *remote) Put(ctx context.Context, key string, data []byte) error {
	return r.do(ctx, "put", key, func(ctx context.Context, key string, budget *budget) error {
		budget.transferred(len(data))
		return r.objects.write(ctx, key, data)
	})
}

// tooLarge is an object of more bytes than its reader allows. A repeat does not
// make it smaller.
type tooLarge struct{ size, limit int64 }

func (e tooLarge) Error() string {
	return fmt.Sprintf("the object has %d bytes or more, of at most %d", e.size, e.limit)
}

// do makes a request until it succeeds, fails for good or has been made often
// enough.
func (r *remote) do(ctx context.Context, verb, key string, request func(context.Context, string, *budget) error) error {
	whole := path.Join(r.prefix, key)
	for attempt := 1; ; attempt++ {
		err := r.once(ctx, whole, request)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s object %s in %s: %w", verb, whole, r.name, ctx.Err())
		}
		var large tooLarge
		if errors.Is(err, ErrNotFound) || errors.As(err, &large) || r.objects.permanent(err) {
			return fmt.Errorf("%s object %s in %s: %w", verb, whole, r.name, err)
		}
		if attempt == attempts {
			return fmt.Errorf("%s object %s in %s, %d times: %w", verb, whole, r.name, attempt, err)
		}
		pause := r.pause << (attempt - 1)
		pause = pause/2 + rand.N(pause/2+1)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func (r *remote) once(ctx context.Context, key string, request func(context.Context, string, *budget) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	budget := newBudget(r.timeout, func() { cancel(errSlow) })
	defer budget.stop()
	err := request(ctx, key, budget)
	if err != nil && errors.Is(context.Cause(ctx), errSlow) {
		return fmt.Errorf("%w (%s, and %d KiB/s for the contents)", errSlow, r.timeout, minRate>>10)
	}
	return err
}

var errSlow = errors.New("no answer within the limit of time")

// budget is the time that one request has: it grows with what is transferred.
type budget struct {
	timer *time.Timer
	end   time.Time
}

func newBudget(timeout time.Duration, expired func()) *budget {
	return &budget{time.AfterFunc(timeout, expired), time.Now().Add(timeout)}
}

// transferred adds the time that n bytes may take.
func (b *budget) transferred(n int) {
	b.end = b.end.Add(time.Duration(n) * (time.Second / minRate))
	b.timer.Reset(time.Until(b.end))
}

func (b *budget) stop() { b.timer.Stop() }
