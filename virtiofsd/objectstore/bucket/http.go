package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
)

// httpObjects are objects on an HTTP server that takes GET, HEAD and PUT; one
// with WebDAV is asked to make the collections that hold them.
type httpObjects struct {
	client      *http.Client
	base        string // scheme and host
	contentType string
}

func openHTTP(a Address) (*remote, error) {
	client := &http.Client{Transport: withUserAgent{a.userAgent(), newTransport(a)}}
	return newRemote(httpObjects{client, a.Name, a.contentType()}, a), nil
}

// errStatus is an answer that is not the one that was asked for.
type errStatus struct {
	method string
	code   int
}

func (e errStatus) Error() string {
	return fmt.Sprintf("%s: the server answers %d %s", e.method, e.code, http.StatusText(e.code))
}

func (h httpObjects) do(ctx context.Context, method, key string, data []byte) (*http.Response, error) {
	var body io.Reader
	if data != nil {
		body = bytes.NewReader(data)
	}
	r, err := http.NewRequestWithContext(ctx, method, h.base+"/"+key, body)
	if err != nil {
		return nil, err
	}
	if data != nil {
		r.Header.Set("Content-Type", h.contentType)
	}
	return h.client.Do(r)
}

func (h httpObjects) read(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	resp, err := h.do(ctx, http.MethodGet, key, nil)
	if err != nil {
		return nil, 0, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.Body, resp.ContentLength, nil
	case http.StatusNotFound, http.StatusGone:
		err = ErrNotFound
	default:
		err = errStatus{"GET", resp.StatusCode}
	}
	resp.Body.Close()
	return nil, 0, err
}

func (h httpObjects) exists(ctx context.Context, key string) (bool, error) {
	resp, err := h.do(ctx, http.MethodHead, key, nil)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK, http.StatusNoContent:
		return true, nil
	case http.StatusNotFound, http.StatusGone:
		return false, nil
	}
	return false, errStatus{"HEAD", resp.StatusCode}
}

func (h httpObjects) write(ctx context.Context, key string, data []byte) error {
	if data == nil {
		data = []byte{}
	}
	err := h.send(ctx, http.MethodPut, key, data)
	// WebDAV: 409 if the collection that is to hold the object does not exist.
	if status := (errStatus{}); errors.As(err, &status) && (status.code == http.StatusConflict || status.code == http.StatusNotFound) {
		if err := h.makeCollection(ctx, path.Dir(key)); err != nil {
			return err
		}
		return h.send(ctx, http.MethodPut, key, data)
	}
	return err
}

func (h httpObjects) send(ctx context.Context, method, key string, data []byte) error {
	resp, err := h.do(ctx, method, key, data)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return errStatus{method, resp.StatusCode}
	}
	return nil
}

// makeCollection makes a collection and those above it.
func (h httpObjects) makeCollection(ctx context.Context, key string) error {
	if key == "." || key == "/" {
		return nil
	}
	err := h.send(ctx, "MKCOL", key+"/", nil)
	status := errStatus{}
	if errors.As(err, &status) && status.code == http.StatusConflict {
		if err := h.makeCollection(ctx, path.Dir(key)); err != nil {
			return err
		}
		err = h.send(ctx, "MKCOL", key+"/", nil)
	}
	if errors.As(err, &status) && status.code == http.StatusMethodNotAllowed { // exists
		return nil
	}
	return err
}

func (h httpObjects) permanent(err error) bool {
	status := errStatus{}
	return errors.As(err, &status) && permanentStatus(status.code)
}

func (h httpObjects) close() error {
	h.client.CloseIdleConnections()
	return nil
}
