package bucket

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// defaultUserAgent is what servers are told.
const defaultUserAgent = "storeboot"

// newTransport makes the HTTP transport that the parameters describe.
func newTransport(a Address) http.RoundTripper {
	t := &http.Transport{}
	a.configure(t)
	return t
}

// configure sets in t what the parameters describe.
func (a Address) configure(t *http.Transport) {
	t.Proxy = http.ProxyFromEnvironment
	t.DialContext = (&net.Dialer{Timeout: a.duration("connect_timeout", 5*time.Second), KeepAlive: 30 * time.Second}).DialContext
	t.TLSHandshakeTimeout = 10 * time.Second
	t.IdleConnTimeout = a.duration("pool_idle_timeout", 90*time.Second)
	t.MaxIdleConns = 0         // no limit but that of each host,
	t.MaxIdleConnsPerHost = 64 // more than are used at once
	t.ForceAttemptHTTP2 = !a.is("http1_only")
	t.DisableCompression = true // objects are compressed
	if t.TLSClientConfig == nil {
		t.TLSClientConfig = &tls.Config{}
	}
	t.TLSClientConfig.InsecureSkipVerify = a.is("allow_invalid_certificates")
	if n, err := strconv.Atoi(a.params["pool_max_idle_per_host"]); err == nil {
		t.MaxIdleConnsPerHost = n
		t.DisableKeepAlives = n == 0
	}
	if p := a.params["proxy_url"]; p != "" {
		if u, err := url.Parse(p); err == nil { // checked before
			t.Proxy = http.ProxyURL(u)
		}
	}
}

func (a Address) duration(name string, otherwise time.Duration) time.Duration {
	if s, ok := a.params[name]; ok {
		if d, err := parseDuration(s); err == nil { // checked before
			return d
		}
	}
	return otherwise
}

func (a Address) userAgent() string {
	if s := a.params["user_agent"]; s != "" {
		return s
	}
	return defaultUserAgent
}

func (a Address) contentType() string {
	if s := a.params["default_content_type"]; s != "" {
		return s
	}
	return contentType
}

// withUserAgent says the user agent in every request.
type withUserAgent struct {
	agent string
	base  http.RoundTripper
}

func (t withUserAgent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", t.agent)
	return t.base.RoundTrip(r)
}
