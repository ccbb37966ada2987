package grpcserver

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"time"

	"golang.org/x/net/netutil"
	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/reflection"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/proto/wire"
)

const (
	// maxStreams is how many calls one connection may have under way. Clients
	// wait with further ones, so it bounds memory and refuses nothing.
	maxStreams = 256
	// streamWindow and connWindow are how much a client may send ahead of what
	// is read, in bytes for each call and each connection. gRPC begins with
	// 64 KiB, which is less than one frame of ours.
	streamWindow = 1 << 20
	connWindow   = 8 << 20
)

// Options are the knobs of a server. Zero values stand for the defaults.
type Options struct {
	// Log takes what goes wrong in the store. Default: nothing is logged.
	Log *slog.Logger
	// TLS is the configuration of TLS; nil for none.
	TLS *tls.Config
	// Token is what callers have to send as "authorization: Bearer TOKEN".
	// Empty: anybody who can connect may call.
	Token string
	// MaxMessage is the longest message that is accepted, in bytes. Default:
	// [wire.MaxMessage].
	MaxMessage int
	// UploadMemory is how much the directories of all uploads under way may
	// take, in bytes; one of them may take half of it. Default: 1 GiB.
	UploadMemory int64
	// UploadTime is how long an upload of directories may take, which holds
	// memory from its first directory on. Default: 6 hours.
	UploadTime time.Duration
	// MaxBlob is the largest blob that is taken, in bytes. Default: 1 TiB.
	MaxBlob int64
	// Idle is how long a call may wait for its peer. Default: 2 minutes.
	Idle time.Duration
	// MaxConnections is how many connections are served at once; further ones
	// wait. Default: 1024.
	MaxConnections int
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxMessage <= 0 {
		o.MaxMessage = wire.MaxMessage
	}
	if o.UploadMemory <= 0 {
		o.UploadMemory = 1 << 30
	}
	if o.UploadTime <= 0 {
		o.UploadTime = 6 * time.Hour
	}
	if o.MaxBlob <= 0 {
		o.MaxBlob = 1 << 40
	}
	if o.Idle <= 0 {
		o.Idle = 2 * time.Minute
	}
	if o.MaxConnections <= 0 {
		o.MaxConnections = 1024
	}
	return o
}

// Server serves one store.
type Server struct {
	grpc   *grpc.Server
	health *health.Server
	o      Options

	blobs       castore.BlobService
	directories castore.DirectoryService
	pathInfos   pathinfo.Service

	instance string // the random name of this server; see package wire
	frames   mem.BufferPool
	uploads  *semaphore.Weighted // of Options.UploadMemory
	nars     *semaphore.Weighted
}

// New makes a server of a store. pathInfos may be nil: then there is no
// PathInfoService. The services are not closed.
func New(blobs castore.BlobService, directories castore.DirectoryService, pathInfos pathinfo.Service, o Options) *Server {
	o = o.withDefaults()
	s := &Server{
		o:           o,
		blobs:       blobs,
		directories: directories,
		pathInfos:   pathInfos,
		instance:    rand.Text(),
		frames:      mem.NewTieredBufferPool(wire.FrameSize),
		uploads:     semaphore.NewWeighted(o.UploadMemory),
		nars:        semaphore.NewWeighted(int64(runtime.GOMAXPROCS(0))),
		health:      health.NewServer(), // the service "" is SERVING
	}
	options := []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.Codec{}),
		grpc.MaxRecvMsgSize(o.MaxMessage),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(20 * time.Second),
		grpc.ChainStreamInterceptor(idleInterceptor(o.Idle)),
		// A peer that has gone without a word is found by pings.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: time.Minute, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
	if o.TLS != nil {
		options = append(options, grpc.Creds(credentials.NewTLS(o.TLS)))
	}
	if o.Token != "" {
		options = append(options, grpc.InTapHandle(requireToken(o.Token)))
	}
	s.grpc = grpc.NewServer(options...)
	s.register()
	healthv1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc) // both v1 and v1alpha
	return s
}

// Serve accepts connections from l until the server is shut down, and closes l.
// It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(netutil.LimitListener(l, s.o.MaxConnections))
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve gRPC on %s: %w", l.Addr(), err)
	}
	return nil
}

// Shutdown closes the listeners and lets the calls that are under way end. Those
// that have not ended when ctx is done are broken off.
func (s *Server) Shutdown(ctx context.Context) {
	s.health.Shutdown() // who watches the health looks for another server
	defer context.AfterFunc(ctx, s.grpc.Stop)()
	s.grpc.GracefulStop()
}
