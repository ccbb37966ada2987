package narbridge

import (
	"crypto/tls"
	"log/slog"
	"runtime"
	"time"

	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/pathinfo"
)

// Compress says when NARs are compressed on their way to a client that takes
// zstd.
type Compress uint8

const (
	// CompressAuto: to clients of other machines, and to those that ask for zstd
	// and nothing else. Nix takes whatever its curl can; on one machine
	// compressing takes longer than sending.
	CompressAuto Compress = iota
	CompressAlways
	CompressNever
)

// Options are the knobs of a server. Zero values stand for the defaults, where
// there are some.
type Options struct {
	// Log takes a line for each request at debug, and what goes wrong in the
	// store. Default: nothing is logged.
	Log *slog.Logger
	// Uploads remembers NARs until their narinfo comes. It is not closed.
	Uploads *uploads.Table
	// Priority is what the cache says of itself; Nix asks caches with a lower one
	// first.
	Priority int
	// NoMassQuery says that clients had better not ask for many paths at once.
	NoMassQuery bool
	// Token is what clients have to send to write: "authorization: Bearer TOKEN",
	// or as the password of Basic (which is what a netrc file gives Nix). Empty:
	// anybody who can connect may write.
	Token string
	// SigningKeys sign what is put and what is served.
	SigningKeys []pathinfo.SecretKey
	// TrustedKeys are those whose signatures are checked when a narinfo is put: one
	// that says it is by such a key has to be.
	TrustedKeys []pathinfo.PublicKey
	// RequireSignature refuses a narinfo without a signature by a trusted key,
	// unless its path follows from its contents.
	RequireSignature bool
	// AnyReferences takes a narinfo whose references are not in the store (yet).
	AnyReferences bool
	// MaxNARSize is the largest NAR that is taken, in bytes. Default: 64 GiB.
	MaxNARSize int64
	// MaxExpansion is how many times as large as its file a NAR may be, once it is
	// larger than 1 GiB. Default: 1000.
	MaxExpansion int64
	// MaxUploads is how many NARs are taken in at once; further ones wait.
	// Default: 4 for each CPU, at least 8.
	MaxUploads int
	// MaxConnections is how many connections are served at once; further ones
	// wait. Default: 1024.
	MaxConnections int
	// Idle is how long a client may send or take nothing. A body also has to come
	// at minRate on the whole. Default: 1 minute.
	Idle time.Duration
	// Compress says when NARs are compressed on their way.
	Compress Compress
	// TLS is the configuration of TLS; nil for none.
	TLS *tls.Config
}

// minRate is how fast a body has to come, on the whole and after Options.Idle, in
// bytes per second: a client that sends single bytes would hold up its upload's
// place for ever.
const minRate = 1 << 10

func (o *Options) setDefaults() {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	for _, x := range []struct {
		to  *int64
		def int64
	}{{&o.MaxNARSize, 64 << 30}, {&o.MaxExpansion, 1000}} {
		if *x.to == 0 {
			*x.to = x.def
		}
	}
	if o.MaxUploads == 0 {
		o.MaxUploads = max(8, 4*runtime.GOMAXPROCS(0))
	}
	if o.MaxConnections == 0 {
		o.MaxConnections = 1024
	}
	if o.Idle == 0 {
		o.Idle = time.Minute
	}
}
