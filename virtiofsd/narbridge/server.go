package narbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
)

const (
	// headerTime is how long a client may take for the header of a request.
	headerTime = 20 * time.Second
	// maxHeader is the longest header, in bytes. The node of a symlink in a URL
	// is the longest thing in one.
	maxHeader = 32 << 10
	// keepAlive is for how long a connection without request is kept.
	keepAlive = 2 * time.Minute
)

// Store is what is served.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service
}

// Server serves one store. It is an http.Handler too.
type Server struct {
	store   Store
	o       Options
	http    *http.Server
	metrics *metrics
	views   *views
	uploads chan struct{} // one for each upload under way
	putting sync.Mutex    // path infos are read, merged and put by one at a time
	zstd    sync.Pool     // of *zstd.Encoder
}

// New makes a server of a store. The services are not closed.
func New(store Store, o Options) *Server {
	o.setDefaults()
	s := &Server{store: store, o: o, metrics: newMetrics(), views: newViews(), uploads: make(chan struct{}, o.MaxUploads)}
	s.http = &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slogErrors(o.Log),
	}
	return s
}

// Serve accepts connections from l until the server is shut down, and closes l.
// It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	l = netutil.LimitListener(l, s.o.MaxConnections)
	if s.o.TLS != nil {
		l = tls.NewListener(l, s.o.TLS)
	}
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown closes the listeners and lets the requests that are under way end.
// Those that have not ended when ctx is done are broken off.
func (s *Server) Shutdown(ctx context.Context) {
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close()
	}
}
