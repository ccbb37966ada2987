package bucket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestFaults holds what comes of a server that fails: repeats where they can
// help, up to a limit, and errors that say what happened.
func TestFaults(t *testing.T) {
	good := &objectServer{}
	good.put("/key", []byte("content"))
	good.put("/bucket/key", []byte("content"))
	cut := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "7")
		_, _ = io.WriteString(w, "cont")
		panic(http.ErrAbortHandler)
	}
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	drop := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	for _, tt := range []struct {
		name     string
		fault    http.HandlerFunc
		times    int64 // then the server is good
		requests int64
		err      string // "" if Get succeeds
	}{
		{"500 twice", answer(500), 2, 3, ""},
		{"503 always", answer(503), 1000, attempts, "503"},
		{"429 once", answer(429), 1, 2, ""},
		{"403", answer(403), 1000, 1, "403"},
		{"cut once", cut, 1, 2, ""},
		{"cut always", cut, 1000, attempts, "EOF"},
		{"connection dropped", drop, 1, 2, ""},
		{"hangs once", hang, 1, 2, ""},
		{"hangs always", hang, 1000, attempts, "no answer"},
	} {
		for _, address := range []string{"/?allow_http=1&timeout=300ms", "s3"} {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) <= tt.times {
					_, _ = io.Copy(io.Discard, r.Body)
					tt.fault(w, r)
					return
				}
				good.ServeHTTP(w, r)
			}))
			url := "objectstore+" + server.URL + address
			if address == "s3" {
				url = "objectstore+s3://bucket?access_key_id=a&secret_access_key=b&allow_http=1&timeout=300ms&endpoint=" + server.URL
			}
			b := open(t, url)
			got, err := b.Get(context.Background(), "key", 100)
			switch {
			case tt.err == "" && (err != nil || string(got) != "content"):
				t.Errorf("%s, %s: Get = %q, %v", b, tt.name, got, err)
			case tt.err != "" && (err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "key")):
				t.Errorf("%s, %s: Get = %q, error %v, want %q", b, tt.name, got, err, tt.err)
			}
			// The transport itself repeats a GET whose connection was dropped.
			if n := requests.Load(); n != tt.requests && !strings.Contains(tt.name, "dropped") {
				t.Errorf("%s, %s: %d requests, want %d", b, tt.name, n, tt.requests)
			}
			requests.Store(0)
			if err := b.Put(context.Background(), "new", []byte("x")); (err == nil) != (tt.times < attempts) {
				t.Errorf("%s, %s: Put: %v", b, tt.name, err)
			}
			requests.Store(0)
			if _, err := b.Exists(context.Background(), "key"); (err == nil) != (tt.times < attempts) {
				t.Errorf("%s, %s: Exists: %v", b, tt.name, err)
			}
			server.CloseClientConnections()
			server.Close()
		}
	}
}

// TestNoBucket holds that a missing bucket is not taken for a missing object.
func TestNoBucket(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `<?xml version="1.0"?><Error><Code>NoSuchBucket</Code><Message>gone</Message></Error>`)
	}))
	defer server.Close()
	b := open(t, "objectstore+s3://bucket?access_key_id=a&secret_access_key=b&allow_http=1&endpoint="+server.URL)
	if got, err := b.Get(context.Background(), "key", 10); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "bucket does not exist") {
		t.Errorf("Get = %q, %v", got, err)
	}
	if err := b.Put(context.Background(), "key", nil); err == nil || !strings.Contains(err.Error(), "bucket does not exist") {
		t.Errorf("Put: %v", err)
	}
}

// TestCanceledInFlight holds that a caller who gives up gets away at once.
func TestCanceledInFlight(t *testing.T) {
	arrived := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer server.Close()
	b := open(t, "objectstore+"+server.URL+"/?allow_http=1")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		<-arrived
		cancel()
	}()
	if _, err := b.Get(ctx, "key", 10); !errors.Is(err, context.Canceled) {
		t.Errorf("Get: %v", err)
	}
}

func TestReadAll(t *testing.T) {
	budget := newBudget(time.Hour, func() {})
	defer budget.stop()
	content := bytes.Repeat([]byte("x"), 100_000)
	for _, size := range []int64{-1, 100_000} {
		if got, err := readAll(bytes.NewReader(content), size, 100_000, budget); err != nil || !bytes.Equal(got, content) {
			t.Errorf("size %d: %d bytes, %v", size, len(got), err)
		}
	}
	if _, err := readAll(bytes.NewReader(content), 100_001, 1<<20, budget); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a body that is short: %v", err)
	}
	if _, err := readAll(bytes.NewReader(content), -1, 99_999, budget); err == nil {
		t.Error("a body beyond the limit is read")
	}
}
