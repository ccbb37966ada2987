package session

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// blockedWriter takes nothing until it is opened.
type blockedWriter struct {
	open chan struct{}
	buf  bytes.Buffer
}

func (w *blockedWriter) Write(b []byte) (int, error) {
	<-w.open
	return w.buf.Write(b)
}

// TestFollowBackPressure holds that a writer whose output nobody takes is
// stopped, goes on when somebody does, and that nothing is lost.
func TestFollowBackPressure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := &blockedWriter{open: make(chan struct{})}
	var mu sync.Mutex
	var calls []bool
	stopped := make(chan struct{}, 1)
	o, err := follow(path, w, func(stop bool) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, stop)
		if stop {
			stopped <- struct{}{}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	chunk := make([]byte, 1<<20)
	for i := range chunk {
		chunk[i] = byte(i * 7 >> 8)
	}
	const chunks = highWater>>20 + 2
	for range chunks {
		if _, err := f.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	<-stopped
	close(w.open)
	o.finish()
	<-o.done
	if o.err != nil || !bytes.Equal(w.buf.Bytes(), bytes.Repeat(chunk, chunks)) {
		t.Errorf("%v, %d bytes of %d", o.err, w.buf.Len(), chunks<<20)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(calls)%2 != 0 {
		t.Errorf("calls %v: the writer stays stopped", calls)
	}
	for i, stop := range calls {
		if stop != (i%2 == 0) {
			t.Errorf("calls %v: not in turns", calls)
		}
	}
}

// TestFollowWhileWriting has the copy see every byte of many small writes.
func TestFollowWhileWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	o, err := follow(path, &got, func(bool) { t.Error("stopped") })
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	var want bytes.Buffer
	for i := range 20000 {
		b := bytes.Repeat([]byte{byte(i)}, i%17)
		want.Write(b)
		if _, err := f.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	o.finish()
	<-o.done
	if o.err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%v, %d bytes of %d", o.err, got.Len(), want.Len())
	}
}

func TestFollowErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	if _, err := follow(path, &bytes.Buffer{}, nil); err == nil {
		t.Error("follows a file that is not there")
	}
	if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := follow(path, failingWriter{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-o.done // without finish: the error ends it
	if o.err == nil {
		t.Error("a failed write is no error")
	}
	o.close()
	o, err = follow(path, &bytes.Buffer{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.close()
	<-o.done // close ends it too
	if errors.Is(o.err, os.ErrClosed) {
		t.Error("close is taken for an error of the output")
	}
}
