package grpcstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

const (
	// streamWindow and connWindow are how much the server may send ahead of
	// what is read, in bytes for each call and each connection: enough for
	// 1 Gbit/s over 30 ms.
	streamWindow = 4 << 20
	connWindow   = 16 << 20
)

// Options are the knobs of a connection. Zero values stand for the defaults.
type Options struct {
	// Timeout is how long a call of one question and one answer may take, and
	// how long to wait for the connection. Default: 1 minute.
	Timeout time.Duration
	// Idle is how long a stream may wait for the server to send or to take
	// something. Default: 1 minute.
	Idle time.Duration
	// SpoolMemory is up to which size a blob is held in memory, in bytes.
	// Default: 1 MiB.
	SpoolMemory int
	// SpoolDir is where larger blobs are held. Default: $TMPDIR or /tmp.
	SpoolDir string
	// MaxBlob is the largest blob that is taken, in bytes. Default: 1 TiB.
	MaxBlob int64
}

func (o Options) withDefaults() Options {
	if o.Timeout <= 0 {
		o.Timeout = time.Minute
	}
	if o.Idle <= 0 {
		o.Idle = time.Minute
	}
	if o.SpoolMemory <= 0 {
		o.SpoolMemory = 1 << 20
	}
	if o.SpoolDir == "" {
		o.SpoolDir = os.TempDir()
	}
	if o.MaxBlob <= 0 {
		o.MaxBlob = 1 << 40
	}
	return o
}

// Conn is a connection to a server. Its services may be used by several
// goroutines at once. It is closed by Close, or when every service that was
// taken from it is closed.
type Conn struct {
	cc     *grpc.ClientConn
	server string // what errors call it
	o      Options
	frames mem.BufferPool
	users  atomic.Int64 // services that are not closed

	prefix  atomic.Pointer[string] // the name the server speaks; nil: not known
	probing chan struct{}          // holds one value while somebody finds out
}

// Dial makes a connection to the server at an address: grpc+http://HOST[:PORT],
// grpc+https://HOST[:PORT] or grpc+unix:///PATH. Without the parameter
// wait-connect=1 it does not connect: the first call does. ctx bounds the wait
// for the connection alone.
func Dial(ctx context.Context, addr string, o Options) (*Conn, error) {
	a, err := parseAddress(addr)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	options, err := a.dialOptions()
	if err != nil {
		return nil, fmt.Errorf("store server %s: %w", a.text, err)
	}
	target := "dns:///" + a.host
	if a.socket != "" {
		target = "passthrough:///unix"
	}
	cc, err := grpc.NewClient(target, options...)
	if err != nil {
		return nil, fmt.Errorf("store server %s: %w", a.text, err)
	}
	c := &Conn{cc: cc, server: a.text, o: o, frames: mem.NewTieredBufferPool(wire.FrameSize), probing: make(chan struct{}, 1)}
	if a.waitConnect {
		if err := c.wait(ctx); err != nil {
			return nil, errors.Join(err, c.Close())
		}
	}
	return c, nil
}

func (a *address) dialOptions() ([]grpc.DialOption, error) {
	options := []grpc.DialOption{
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(wire.Codec{}), grpc.MaxCallRecvMsgSize(wire.MaxReply)),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithUserAgent("storeboot"),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 10 * time.Second,
		}),
	}
	if a.socket != "" {
		dial := func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
		}
		options = append(options, grpc.WithContextDialer(dial), grpc.WithAuthority("localhost"))
	}
	if a.tls {
		config := &tls.Config{MinVersion: tls.VersionTLS12}
		if a.caFile != "" {
			pem, err := os.ReadFile(a.caFile)
			if err != nil {
				return nil, fmt.Errorf("read the certificates to trust: %w", err)
			}
			config.RootCAs = x509.NewCertPool()
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("%s holds no certificate in PEM form", a.caFile)
			}
		}
		options = append(options, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	} else {
		options = append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))
	}
	if a.tokenFile != "" {
		b, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return nil, fmt.Errorf("read the token: %w", err)
		}
		t := strings.TrimSpace(string(b))
		if t == "" {
			return nil, fmt.Errorf("read the token: %s is empty", a.tokenFile)
		}
		options = append(options, grpc.WithPerRPCCredentials(token{t, a.tls}))
	}
	return options, nil
}

// token is sent with every call.
type token struct {
	text string
	tls  bool
}

func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + t.text}, nil
}

func (t token) RequireTransportSecurity() bool { return t.tls }

// wait connects now.
func (c *Conn) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	c.cc.Connect()
	for s := c.cc.GetState(); s != connectivity.Ready; s = c.cc.GetState() {
		if s == connectivity.TransientFailure {
			return fmt.Errorf("store server %s cannot be reached: is it running?", c.server)
		}
		if !c.cc.WaitForStateChange(ctx, s) {
			return fmt.Errorf("connect to store server %s: %w", c.server, ctx.Err())
		}
	}
	return nil
}

// Blobs is the blob service of the server.
func (c *Conn) Blobs() castore.BlobService {
	c.users.Add(1)
	return &blobs{conn: c, rpc: castorev1.NewBlobServiceClient(c), closer: c.closer()}
}

// Directories is the directory service of the server.
func (c *Conn) Directories() castore.DirectoryService {
	c.users.Add(1)
	t := &directoryTable{conn: c, rpc: castorev1.NewDirectoryServiceClient(c), closer: c.closer()}
	return &directories{DirectoryService: castore.NewDirectoryService(t), table: t}
}

// PathInfos is the path info service of the server.
func (c *Conn) PathInfos() pathinfo.Service {
	c.users.Add(1)
	return &pathInfos{conn: c, closer: c.closer()}
}

// closer makes the Close of a service: the first call counts.
func (c *Conn) closer() func() error {
	var closed atomic.Bool
	return func() error {
		if closed.Swap(true) || c.users.Add(-1) > 0 {
			return nil
		}
		return c.Close()
	}
}

// Close closes the connection. Calls that are under way fail.
func (c *Conn) Close() error {
	if err := c.cc.Close(); err != nil && !errors.Is(err, grpc.ErrClientConnClosing) {
		return err
	}
	return nil
}
