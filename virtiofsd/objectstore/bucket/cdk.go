package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
	"google.golang.org/api/googleapi"
)

// contentType is said of every object.
const contentType = "application/octet-stream"

// cdk are the objects of a bucket of the Go CDK.
type cdk struct {
	bucket      *blob.Bucket
	contentType string
}

func newMemory() cdk { return cdk{memblob.OpenBucket(nil), contentType} }

func (c cdk) read(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	r, err := c.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, 0, c.classify(err)
	}
	return r, r.Size(), nil
}

func (c cdk) exists(ctx context.Context, key string) (bool, error) {
	exists, err := c.bucket.Exists(ctx, key)
	return exists, c.classify(err)
}

func (c cdk) write(ctx context.Context, key string, data []byte) error {
	err := c.bucket.WriteAll(ctx, key, data, &blob.WriterOptions{
		ContentType:    c.contentType,
		MaxConcurrency: 1,
	})
	if gcerrors.Code(err) == gcerrors.NotFound {
		return noBucket{err}
	}
	return c.classify(err)
}

// noBucket is that the bucket itself is missing, which must not look like a
// missing object.
type noBucket struct{ err error }

func (e noBucket) Error() string { return fmt.Sprintf("the bucket does not exist: %v", e.err) }
func (e noBucket) Unwrap() error { return e.err }

func (c cdk) classify(err error) error {
	if gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	if s3 := smithy.APIError(nil); errors.As(err, &s3) && s3.ErrorCode() == "NoSuchBucket" {
		return noBucket{err}
	}
	if azure := (*azcore.ResponseError)(nil); errors.As(err, &azure) && azure.ErrorCode == "ContainerNotFound" {
		return noBucket{err}
	}
	return ErrNotFound
}

// permanent goes by the status of the answer where there was one: a request
// that was refused (4xx) is not repeated, but for time-outs and too many
// requests.
func (c cdk) permanent(err error) bool {
	if missing := (noBucket{}); errors.As(err, &missing) {
		return true
	}
	status := 0
	if e := (*smithyhttp.ResponseError)(nil); errors.As(err, &e) {
		status = e.HTTPStatusCode()
	}
	if e := (*azcore.ResponseError)(nil); errors.As(err, &e) {
		status = e.StatusCode
	}
	if e := (*googleapi.Error)(nil); errors.As(err, &e) {
		status = e.Code
	}
	if status != 0 {
		return permanentStatus(status)
	}
	switch gcerrors.Code(err) {
	case gcerrors.PermissionDenied, gcerrors.InvalidArgument, gcerrors.Unimplemented, gcerrors.FailedPrecondition:
		return true
	}
	return false
}

func permanentStatus(status int) bool {
	return status >= 300 && status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests
}

func (c cdk) close() error { return c.bucket.Close() }
