package bucket

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// ErrNotFound is what Get returns, wrapped, for a key without object.
var ErrNotFound = errors.New("no such object")

// Bucket holds objects that are never changed: who puts a key twice puts the
// same, or something that may take the place of what was there. Keys are
// relative paths of letters, digits, dashes and slashes. All methods may be
// called by several goroutines at once.
type Bucket interface {
	// Get returns an object, or ErrNotFound. One of more than limit bytes is an
	// error.
	Get(ctx context.Context, key string, limit int64) ([]byte, error)
	// Exists says whether Get would find the key.
	Exists(ctx context.Context, key string) (bool, error)
	// Put stores an object, which Get finds when Put has returned. data is not
	// kept.
	Put(ctx context.Context, key string, data []byte) error
	// Flush makes all objects that were put, or found to exist, before the call
	// survive a power loss.
	Flush(ctx context.Context) error
	// Close frees what the bucket holds. It does not flush.
	Close() error
	// String names the bucket for messages, without credentials.
	String() string
}

// Open opens the bucket of an address. No request is made.
func Open(ctx context.Context, a Address) (Bucket, error) {
	var b Bucket
	var err error
	switch a.Kind {
	case File:
		b, err = openLocal(a.Prefix)
	case Memory:
		b = newRemote(newMemory(), a)
	case S3:
		b, err = openS3(ctx, a)
	case GCS:
		b, err = openGCS(ctx, a, os.Getenv)
	case Azure:
		b, err = openAzure(a, os.Getenv)
	case HTTP:
		b, err = openHTTP(a)
	default:
		err = fmt.Errorf("unknown kind %q", a.Kind)
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", a, err)
	}
	return b, nil
}
