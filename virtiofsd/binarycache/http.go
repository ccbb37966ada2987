package binarycache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// userAgent is said in every request.
const userAgent = "storeboot"

// web is a cache over HTTP. Proxies are those of the environment (HTTPS_PROXY,
// HTTP_PROXY, NO_PROXY).
type web struct {
	base           *url.URL
	client         *http.Client
	credentials    *credentials
	timeout, stall time.Duration
}

func openWeb(a Address) (*web, error) {
	c, err := readCredentials(a)
	if err != nil {
		return nil, err
	}
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: min(a.Timeout, 15*time.Second), KeepAlive: 30 * time.Second}).DialContext,
		TLSHandshakeTimeout:   min(a.Timeout, 15*time.Second),
		ExpectContinueTimeout: time.Second,
		IdleConnTimeout:       90 * time.Second,
		MaxIdleConnsPerHost:   32,
		ForceAttemptHTTP2:     true,
		DisableCompression:    true, // lengths and offsets are those of the file
		// A narinfo is not larger than its limit; headers need no more.
		MaxResponseHeaderBytes: 64 << 10,
	}
	return &web{
		base:        &url.URL{Scheme: a.Scheme, Host: a.Host, Path: a.Path},
		client:      &http.Client{Transport: transport}, // at most 10 redirects
		credentials: c, timeout: a.Timeout, stall: a.Stall,
	}, nil
}

// url is that of a key.
func (w *web) url(key string) (*url.URL, error) {
	u, err := w.base.Parse(key)
	switch {
	case err != nil:
		return nil, permanentError{fmt.Errorf("URL %q: not one", key)}
	case u.Scheme != w.base.Scheme && !(u.Scheme == "https" && w.base.Scheme == "http"):
		return nil, permanentError{fmt.Errorf("URL %q: leads from %s to %s", key, w.base.Scheme, u.Scheme)}
	case u.Host == "" || u.User != nil || u.Fragment != "":
		return nil, permanentError{fmt.Errorf("URL %q: not possible in a binary cache", key)}
	}
	return u, nil
}

func (w *web) request(ctx context.Context, method, key string, body io.Reader) (*http.Request, error) {
	u, err := w.url(key)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, permanentError{err}
	}
	r.Header.Set("User-Agent", userAgent)
	r.Header.Set("Accept-Encoding", "identity")
	if u.Host == w.base.Host && u.Scheme == w.base.Scheme {
		w.credentials.set(r)
	}
	return r, nil
}

// do makes a request, whose answer is below 300 or an error. The answer's body
// is to be closed.
func (w *web) do(watch *watch, r *http.Request) (*http.Response, error) {
	answer, err := w.client.Do(r)
	if err != nil {
		err = watch.err(err)
		var e *url.Error
		if errors.As(err, &e) {
			err = fmt.Errorf("%s %s: %w", e.Op, redact(e.URL), e.Err)
			if strings.Contains(e.Err.Error(), "redirects") {
				err = permanentError{err}
			}
		} else {
			err = fmt.Errorf("%s %s: %w", r.Method, redact(r.URL.String()), err)
		}
		return nil, err
	}
	watch.answered()
	if answer.StatusCode < 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	return nil, w.refused(answer)
}

// refused is the error of an answer.
func (w *web) refused(answer *http.Response) error {
	at := fmt.Sprintf("%s %s", answer.Request.Method, redact(answer.Request.URL.String()))
	err := fmt.Errorf("%s: %s", at, answer.Status)
	switch s := answer.StatusCode; {
	case s == http.StatusNotFound || s == http.StatusGone:
		return fmt.Errorf("%s: %w", at, ErrNotFound)
	case s == http.StatusForbidden && answer.Request.Method != http.MethodPut: // S3 says so where listing is not allowed
		return fmt.Errorf("%s: %s: %w", at, answer.Status, ErrNotFound)
	case s == http.StatusUnauthorized || s == http.StatusForbidden || s == http.StatusProxyAuthRequired:
		return permanentError{fmt.Errorf("%w: give a user in a netrc file, or a token with token-file=FILE", err)}
	case s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable:
		seconds, _ := strconv.ParseUint(answer.Header.Get("Retry-After"), 10, 16)
		return laterError{err, time.Duration(seconds) * time.Second}
	case s < 500 && s != http.StatusRequestTimeout && s != http.StatusTooEarly:
		text, _ := io.ReadAll(io.LimitReader(answer.Body, 300))
		if line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n"); line != "" && !strings.HasPrefix(line, "<") {
			err = fmt.Errorf("%w: %.200q", err, line)
		}
		return permanentError{err}
	}
	return err
}

func (w *web) open(ctx context.Context, key string, offset int64, tag string) (*opened, error) {
	watch := newWatch(ctx, w.timeout, w.stall)
	o, err := w.opened(watch, key, offset, tag)
	if err != nil {
		watch.end()
		return nil, err
	}
	return o, nil
}

func (w *web) opened(watch *watch, key string, offset int64, tag string) (*opened, error) {
	r, err := w.request(watch.ctx, http.MethodGet, key, nil)
	if err != nil {
		return nil, err
	}
	if offset > 0 {
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		if tag != "" && !strings.HasPrefix(tag, "W/") {
			r.Header.Set("If-Range", tag)
		}
	}
	answer, err := w.do(watch, r)
	if err != nil {
		return nil, err
	}
	o := &opened{body: &watchedBody{watch: watch, body: answer.Body}, size: answer.ContentLength, tag: answer.Header.Get("ETag")}
	if o.encoding = answer.Header.Get("Content-Encoding"); o.encoding == "identity" {
		o.encoding = ""
	}
	switch answer.StatusCode {
	case http.StatusOK:
		return o, nil
	case http.StatusPartialContent:
		o.offset, o.size, err = contentRange(answer.Header.Get("Content-Range"))
		if err == nil && o.offset != offset {
			err = fmt.Errorf("the answer begins at %d, not at %d", o.offset, offset)
		}
	default:
		err = fmt.Errorf("answer %s, which is no file", answer.Status)
	}
	if err != nil {
		_ = o.body.Close()
		return nil, permanentError{fmt.Errorf("GET %s: %w", redact(r.URL.String()), err)}
	}
	return o, nil
}

// contentRange parses "bytes FIRST-LAST/SIZE".
func contentRange(s string) (offset, size int64, err error) {
	var last int64
	if _, err := fmt.Sscanf(s, "bytes %d-%d/%d", &offset, &last, &size); err != nil || offset < 0 || last < offset || size <= last {
		return 0, 0, fmt.Errorf("Content-Range %q is not of the form bytes FIRST-LAST/SIZE", s)
	}
	return offset, size, nil
}

func (w *web) exists(ctx context.Context, key string) (bool, error) {
	watch := newWatch(ctx, w.timeout, w.stall)
	defer watch.end()
	r, err := w.request(watch.ctx, http.MethodHead, key, nil)
	if err != nil {
		return false, err
	}
	answer, err := w.do(watch, r)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, answer.Body.Close()
}

func (w *web) write(ctx context.Context, key, contentType string, size int64, body io.Reader) error {
	watch := newWatch(ctx, w.timeout, w.stall)
	defer watch.end()
	var b io.Reader = http.NoBody
	if size > 0 {
		b = &watchedUpload{watch, io.LimitReader(body, size)}
	}
	r, err := w.request(watch.ctx, http.MethodPut, key, b)
	if err != nil {
		return err
	}
	r.ContentLength = size
	r.Header.Set("Content-Type", contentType)
	if size > 1<<20 {
		r.Header.Set("Expect", "100-continue")
	}
	answer, err := w.do(watch, r)
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

func (w *web) close() error {
	w.client.CloseIdleConnections()
	return nil
}
