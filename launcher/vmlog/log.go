// Package vmlog keeps what a VM in the background writes: the end of it, in a
// file that is never larger than a limit.
package vmlog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"
)

// MaxSize is how large a log becomes, in bytes, before its first half goes: what
// is kept is in memory where the runtime directory is.
const MaxSize = 8 << 20

// Log is a file. What is written before [Log.Open] goes nowhere. It may be used
// by several goroutines.
type Log struct {
	mu   sync.Mutex
	file *os.File
	size int64
	path string
}

// OldSuffix names the file that holds what came before.
const OldSuffix = ".old"

// Open makes the file at path.
func (l *Log) Open(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	l.file, l.path, l.size = f, path, 0
	return nil
}

// Write never fails for want of space: a log that cannot be kept is dropped.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return len(p), nil
	}
	if l.size+int64(len(p)) > MaxSize/2 && l.size > 0 {
		if os.Rename(l.path, l.path+OldSuffix) == nil {
			if f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600); err == nil {
				_ = l.file.Close()
				l.file, l.size = f, 0
			}
		}
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
	return len(p), nil
}

// Close ends the log.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

// followPoll is the pause between two looks for more.
const followPoll = 100 * time.Millisecond

// Copy writes what the log at path holds to w. With follow it goes on with what
// comes until ended says that nothing will, or ctx ends.
func Copy(ctx context.Context, w io.Writer, path string, follow bool, ended func() bool) error {
	old, err := os.Open(path + OldSuffix)
	if err == nil {
		_, err = io.Copy(w, old)
		_ = old.Close()
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for last := false; ; {
		if _, err := io.Copy(w, f); err != nil || !follow || last {
			return err
		}
		// After a change of files the old one is whole.
		if mine, err := f.Stat(); err == nil {
			if now, err := os.Stat(path); err == nil && !os.SameFile(mine, now) {
				if _, err := io.Copy(w, f); err != nil {
					return err
				}
				next, err := os.Open(path)
				if err != nil {
					return err
				}
				_ = f.Close()
				f = next
				continue
			}
		}
		last = ended()
		if last {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followPoll):
		}
	}
}
