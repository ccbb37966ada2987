package vmlog

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var l Log
	if n, err := l.Write([]byte("lost")); n != 4 || err != nil {
		t.Error(n, err)
	}
	if err := l.Open(path); err != nil {
		t.Fatal(err)
	}
	line := []byte(strings.Repeat("x", 1<<20-1) + "\n")
	var want bytes.Buffer
	for i := range 20 {
		line[0] = byte('a' + i)
		if _, err := l.Write(line); err != nil {
			t.Fatal(err)
		}
		want.Write(line)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := Copy(t.Context(), &got, path, false, nil); err != nil {
		t.Fatal(err)
	}
	if got.Len() > MaxSize || got.Len() < MaxSize/2 || !bytes.HasSuffix(want.Bytes(), got.Bytes()) {
		t.Errorf("%d bytes are kept, of at most %d, or not the last", got.Len(), MaxSize)
	}
}

// TestFollow follows a log while it is written and changes its file.
func TestFollow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var l Log
	if err := l.Open(path); err != nil {
		t.Fatal(err)
	}
	var ended atomic.Bool
	var want bytes.Buffer
	go func() {
		for i := range 6 {
			_, _ = l.Write(bytes.Repeat([]byte{byte('a' + i)}, 1<<20))
			time.Sleep(3 * followPoll)
		}
		ended.Store(true)
	}()
	for i := range 6 {
		want.Write(bytes.Repeat([]byte{byte('a' + i)}, 1<<20))
	}
	var got bytes.Buffer
	if err := Copy(t.Context(), &got, path, true, ended.Load); err != nil || !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Errorf("%d bytes, %v, want %d", got.Len(), err, want.Len())
	}
	if _, err := os.Stat(path + OldSuffix); err != nil {
		t.Errorf("the file did not change: %v", err)
	}
}
