package binarycache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"
)

// defaultRegion is that of requests when neither the address nor the environment
// names one, as in Nix.
const defaultRegion = "us-east-1"

// bucket is a cache in S3. Credentials are those of the environment, of
// ~/.aws or of the machine.
type bucket struct {
	bucket *blob.Bucket
	prefix string
	a      Address
}

func openBucket(ctx context.Context, a Address) (*bucket, error) {
	var load []func(*config.LoadOptions) error
	if a.region != "" {
		load = append(load, config.WithRegion(a.region))
	}
	if a.profile != "" {
		load = append(load, config.WithSharedConfigProfile(a.profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, err
	}
	cfg.Region = cmp.Or(cfg.Region, defaultRegion)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) {
		if a.endpoint != "" {
			o.BaseEndpoint = aws.String(a.endpoint)
			o.UsePathStyle = true // what is not Amazon's knows no other
		}
		o.Retryer = aws.NopRetryer{} // repeat does that
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	b, err := s3blob.OpenBucket(ctx, client, a.Host, &s3blob.Options{RequestChecksumCalculation: client.Options().RequestChecksumCalculation})
	if err != nil {
		return nil, err
	}
	return &bucket{b, a.Path, a}, nil
}

// key is the key of the bucket.
func (b *bucket) key(key string) (string, error) {
	if clean := path.Clean("/" + key); clean != "/"+key || strings.Contains(key, "://") {
		return "", permanentError{fmt.Errorf("%q leads out of the cache", key)}
	}
	return b.prefix + key, nil
}

func (b *bucket) open(ctx context.Context, key string, offset int64, _ string) (*opened, error) {
	whole, err := b.key(key)
	if err != nil {
		return nil, err
	}
	w := newWatch(ctx, b.a.Timeout, b.a.Stall)
	r, err := b.bucket.NewRangeReader(w.ctx, whole, offset, -1, nil)
	if err != nil {
		err = b.classify(w, whole, err)
		w.end()
		return nil, err
	}
	w.answered()
	return &opened{body: &watchedBody{watch: w, body: r}, offset: offset, size: r.Size()}, nil
}

func (b *bucket) exists(ctx context.Context, key string) (bool, error) {
	whole, err := b.key(key)
	if err != nil {
		return false, err
	}
	w := newWatch(ctx, b.a.Timeout, b.a.Stall)
	defer w.end()
	there, err := b.bucket.Exists(w.ctx, whole)
	return there, b.classify(w, whole, err)
}

func (b *bucket) write(ctx context.Context, key, contentType string, size int64, body io.Reader) error {
	whole, err := b.key(key)
	if err != nil {
		return err
	}
	w := newWatch(ctx, b.a.Timeout, b.a.Stall)
	defer w.end()
	o, err := b.bucket.NewWriter(w.ctx, whole, &blob.WriterOptions{ContentType: contentType, MaxConcurrency: 2})
	if err != nil {
		return b.classify(w, whole, err)
	}
	n, err := io.Copy(o, &watchedUpload{w, body})
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		w.cancel(err) // so that Close stores nothing
		return errors.Join(err, b.classify(w, whole, o.Close()))
	}
	w.timer.Reset(b.a.Timeout + b.a.Stall)
	return b.classify(w, whole, o.Close())
}

func (b *bucket) classify(w *watch, key string, err error) error {
	if err == nil {
		return nil
	}
	at := "object " + key + " of s3://" + b.a.Host
	switch gcerrors.Code(err) {
	case gcerrors.NotFound:
		if strings.Contains(err.Error(), "NoSuchBucket") {
			return permanentError{fmt.Errorf("%s: the bucket does not exist", at)}
		}
		return fmt.Errorf("%s: %w", at, ErrNotFound)
	case gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.Unimplemented:
		return permanentError{fmt.Errorf("%s: %w", at, err)}
	}
	return fmt.Errorf("%s: %w", at, w.err(err))
}

func (b *bucket) close() error { return b.bucket.Close() }
