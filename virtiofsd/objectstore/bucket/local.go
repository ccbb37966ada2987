package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"storeboot/virtiofsd/staging"
)

// maxStaged is how many objects wait for their names before a flush happens by
// itself.
const maxStaged = 8192

// local is a bucket in a directory of the local file system, one file for each
// object.
//
// The drivers of libraries rename a file to its name before its contents are on
// the disk. A power loss then leaves a name with torn contents, which stays,
// since whoever wants to store the object again finds the name. Here a file
// waits in a staging directory until Flush, which writes the contents of all
// that wait to the disk, then gives them their names, then writes the names.
//
// Any number of processes may use the directory at once, snix among them. A
// staging directory is locked by its process; those that nobody locks are
// removed by the next process that writes.
//
// After the first failed write of contents or names a bucket refuses further
// objects: what a second fsync says after a failed one means nothing on Linux.
type local struct {
	dir string

	// flushing is held during a flush, so that its end means that the names
	// are on the disk. It is taken before mu.
	flushing sync.Mutex

	// mu guards what is below. It is held while a file is renamed, so that
	// whoever holds it finds an object under the one or the other name.
	mu      sync.Mutex
	staging *staging.Dir // nil before the first write
	staged  map[string]uint64
	unsaved map[string]bool // directories with names that may not be on the disk
	broken  error           // the first failed write to the disk
	closed  bool
}

var errClosed = errors.New("the bucket is closed")

func openLocal(dir string) (*local, error) {
	switch info, err := os.Stat(dir); {
	case errors.Is(err, fs.ErrNotExist): // made by the first write
	case err != nil:
		return nil, err
	case !info.IsDir():
		return nil, fmt.Errorf("%s is not a directory", dir)
	}
	return &local{dir: dir, staged: map[string]uint64{}, unsaved: map[string]bool{}}, nil
}

func (l *local) String() string         { return "file://" + l.dir }
func (l *local) path(key string) string { return l.dir + "/" + key }

func (l *local) Get(ctx context.Context, key string, limit int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := l.open(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fmt.Errorf("get object %s: %w", l.path(key), ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("get object: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.Size() > limit {
		err = tooLarge{info.Size(), limit}
	}
	if err != nil {
		return nil, fmt.Errorf("get object %s: %w", l.path(key), err)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("get object %s: %w", l.path(key), err)
	}
	return data, nil
}

// open opens the file of an object. One that is staged is newer than the one
// under its name.
func (l *local) open(key string) (*os.File, error) {
	l.mu.Lock()
	if number, ok := l.staged[key]; ok {
		defer l.mu.Unlock()
		return os.Open(l.staging.Path(number))
	}
	l.mu.Unlock()
	return os.Open(l.path(key)) // what was staged a moment ago has its name now
}

func (l *local) Exists(ctx context.Context, key string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	l.mu.Lock()
	_, staged := l.staged[key]
	l.mu.Unlock()
	if staged {
		return true, nil
	}
	// What was staged a moment ago may have its name now, never the other way.
	switch _, err := os.Lstat(l.path(key)); {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("look for object: %w", err)
	}
	l.noteUnsaved(key)
	return true, nil
}

// noteUnsaved has the next flush write the name of an object to the disk that
// another process may have given a moment ago.
func (l *local) noteUnsaved(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsaved[filepath.Dir(l.path(key))] = true
}

func (l *local) Put(ctx context.Context, key string, data []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.same(key, data) {
		l.noteUnsaved(key)
		return nil
	}
	full, err := l.put(key, data)
	if err != nil {
		return fmt.Errorf("put object %s: %w", l.path(key), err)
	}
	if full {
		return l.Flush(ctx)
	}
	return nil
}

// same says that a small object is there already with these contents.
func (l *local) same(key string, data []byte) bool {
	const small = 4096
	if len(data) > small {
		return false
	}
	l.mu.Lock()
	_, staged := l.staged[key]
	l.mu.Unlock()
	if staged {
		return false
	}
	old, err := os.ReadFile(l.path(key))
	return err == nil && bytes.Equal(old, data)
}

func (l *local) put(key string, data []byte) (full bool, err error) {
	f, number, err := l.newFile()
	if err != nil {
		return false, err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Close())
	if err != nil {
		_ = os.Remove(f.Name())
		return false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false, errClosed
	}
	if old, ok := l.staged[key]; ok { // the later one takes its place
		_ = os.Remove(l.staging.Path(old))
	}
	l.staged[key] = number
	return len(l.staged) >= maxStaged, nil
}

// newFile makes an empty file in the staging directory.
func (l *local) newFile() (*os.File, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, 0, errClosed
	case l.broken != nil:
		return nil, 0, fmt.Errorf("an earlier write failed: %w", l.broken)
	case l.staging == nil:
		st, err := staging.New(l.dir)
		if err != nil {
			return nil, 0, fmt.Errorf("make a staging directory: %w", err)
		}
		l.staging = st
	}
	return l.staging.Create()
}

// Close drops what was not flushed.
func (l *local) Close() error {
	l.flushing.Lock()
	defer l.flushing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	clear(l.staged)
	if l.staging == nil {
		return nil
	}
	st := l.staging
	l.staging = nil
	if err := st.Remove(); err != nil {
		return fmt.Errorf("close bucket: %w", err)
	}
	return nil
}
