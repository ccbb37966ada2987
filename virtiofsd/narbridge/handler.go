package narbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// refusal is an error that is the client's: its text is the answer.
type refusal struct {
	status int
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// refuse makes a refusal.
func refuse(status int, format string, args ...any) error {
	return &refusal{status, fmt.Errorf(format, args...)}
}

// route is what answers a kind of request. name is a label of the metrics.
type route struct {
	name   string
	answer func(w *response, r *http.Request) error
}

// slogErrors is a log for what net/http says, which is of clients.
func slogErrors(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rt := s.route(r)
	out := newResponse(w, s.o.Idle)
	in := &countingBody{ReadCloser: r.Body}
	r.Body = in
	done := s.metrics.begin()
	var err error
	defer func() {
		panicked := recover()
		done(rt.name, r.Method, out, in.n, time.Since(began))
		s.log(r, out, in.n, began, err)
		if panicked != nil { // net/http closes the connection and logs it
			panic(panicked)
		}
	}()
	if err = rt.answer(out, r); err != nil {
		s.fail(out, r, err)
	}
}

// fail answers a request with an error. When a part of the answer is sent already
// the connection is broken off: the client must not take it for the whole.
func (s *Server) fail(w *response, r *http.Request, err error) {
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	status, text := http.StatusInternalServerError, "the store failed: the log of the server says how"
	var refused *refusal
	switch {
	case errors.As(err, &refused):
		status, text = refused.status, err.Error()
	case r.Context().Err() != nil:
		panic(http.ErrAbortHandler) // nobody is there to read it
	case errors.Is(err, context.DeadlineExceeded):
		status, text = http.StatusServiceUnavailable, "the store is busy: try again"
	}
	for _, name := range []string{"Etag", "Cache-Control", "Content-Encoding", "Content-Length"} {
		w.Header().Del(name)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = io.WriteString(w, oneLine(text)+"\n")
	}
}

// oneLine is text without line breaks and other control characters.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
}

// log logs a request; one that the store failed is an error.
func (s *Server) log(r *http.Request, w *response, read int64, began time.Time, err error) {
	level := slog.LevelDebug
	if err != nil && r.Context().Err() == nil && !errors.As(err, new(*refusal)) {
		level = slog.LevelError
	}
	ctx := context.WithoutCancel(r.Context())
	if !s.o.Log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", w.status),
		slog.Int64("read", read), slog.Int64("sent", w.sent), slog.Duration("took", time.Since(began)), slog.String("client", r.RemoteAddr),
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", err.Error()))
	}
	s.o.Log.LogAttrs(ctx, level, "request", attrs...)
}

// countingBody counts what is read of a body.
type countingBody struct {
	io.ReadCloser
	n int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	return n, err
}
