package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

// bridgeOptions are the flags that say how the binary cache behaves.
type bridgeOptions struct {
	priority      int
	massQuery     bool
	signingKeys   []string
	trustedKeys   []string
	requireSig    bool
	requireRefs   bool
	maxNARSize    int64
	maxExpansion  int64
	maxUploads    int
	maxConns      int
	idle          time.Duration
	compress      string
	uploads       string
	uploadAge     time.Duration
	uploadsAtMost int
}

// defaultBridgeOptions are the values of the flags where there are none. Their
// reasons are at narbridge.Options.
func defaultBridgeOptions() bridgeOptions {
	return bridgeOptions{
		priority:      39, // that of nar-bridge; cache.nixos.org has 40
		massQuery:     true,
		requireRefs:   true,
		maxNARSize:    64 << 30,
		maxExpansion:  1000,
		maxConns:      1024,
		idle:          time.Minute,
		compress:      "auto",
		uploadAge:     7 * 24 * time.Hour,
		uploadsAtMost: 100_000,
	}
}

func (o *bridgeOptions) addFlags(f *pflag.FlagSet) {
	*o = defaultBridgeOptions()
	f.IntVar(&o.priority, "priority", o.priority, "tell clients this priority `N`; Nix asks caches with a lower one first (environment: PRIORITY)")
	f.BoolVar(&o.massQuery, "want-mass-query", o.massQuery, "tell clients that they may ask for many paths at once")
	f.StringArrayVar(&o.signingKeys, "signing-key", nil, "sign all store paths with the Nix secret key in this `FILE` (may be repeated)")
	f.StringArrayVar(&o.trustedKeys, "trusted-public-keys", nil, "check signatures by these keys, `NAME:BASE64` with spaces between (may be repeated)")
	f.BoolVar(&o.requireSig, "require-signature", false, "refuse store paths without a signature by one of --trusted-public-keys, unless their name follows from their contents")
	f.BoolVar(&o.requireRefs, "require-references", o.requireRefs, "refuse store paths that refer to one that is not in the store (Nix uploads in an order in which none does)")
	f.Int64Var(&o.maxNARSize, "max-nar-size", o.maxNARSize, "take NARs of at most this many `BYTES`, uncompressed")
	f.Int64Var(&o.maxExpansion, "max-expansion", o.maxExpansion, "refuse compressed NARs that grow to over 1 GiB and more than `N` times their size")
	f.IntVar(&o.maxUploads, "max-uploads", 0, "take in this `NUMBER` of NARs at once, others wait (0: 4 for each CPU, at least 8)")
	f.IntVar(&o.maxConns, "max-connections", o.maxConns, "serve this `NUMBER` of connections at once, others wait")
	f.DurationVar(&o.idle, "idle", o.idle, "break off a request whose client sends and takes nothing for this `TIME`")
	f.StringVar(&o.compress, "compress", o.compress, "compress NARs with zstd on their way to clients that take it: `WHEN` is auto (those on other machines), always or never")
	f.StringVar(&o.uploads, "uploads", "", "keep the table of uploads that wait for their narinfo in this `FILE` (default: beside the embedded store, else in its default directory)")
	f.DurationVar(&o.uploadAge, "upload-age", o.uploadAge, "wait for the narinfo of an uploaded NAR for this `TIME`")
}

// parse checks the flags and reads the files that they name. What it returns
// lacks the table of uploads and what the listener has to do with.
func (o *bridgeOptions) parse(log *slog.Logger) (narbridge.Options, error) {
	var none narbridge.Options
	compress, ok := map[string]narbridge.Compress{"auto": narbridge.CompressAuto, "always": narbridge.CompressAlways, "never": narbridge.CompressNever}[o.compress]
	switch {
	case !ok:
		return none, cli.Usagef("--compress %q: want auto, always or never", o.compress)
	case o.priority < 0:
		return none, cli.Usagef("--priority %d: want a number from 0 on", o.priority)
	case o.maxNARSize <= 0 || o.maxExpansion <= 0 || o.maxConns <= 0 || o.maxUploads < 0:
		return none, cli.Usagef("--max-nar-size, --max-expansion and --max-connections have to be above 0, and --max-uploads not below")
	case o.idle <= 0 || o.uploadAge <= 0:
		return none, cli.Usagef("--idle and --upload-age have to be above 0")
	}
	n := narbridge.Options{
		Log: log, Priority: o.priority, NoMassQuery: !o.massQuery, RequireSignature: o.requireSig, AnyReferences: !o.requireRefs,
		MaxNARSize: o.maxNARSize, MaxExpansion: o.maxExpansion, MaxUploads: o.maxUploads, MaxConnections: o.maxConns, Idle: o.idle, Compress: compress,
	}
	for _, keys := range o.trustedKeys {
		k, err := pathinfo.ParsePublicKeys(keys)
		if err != nil {
			return none, cli.Usagef("--trusted-public-keys: %w", err)
		}
		n.TrustedKeys = append(n.TrustedKeys, k...)
	}
	if o.requireSig && len(n.TrustedKeys) == 0 {
		return none, cli.Usagef("--require-signature needs --trusted-public-keys, as otherwise nothing can be uploaded")
	}
	for _, file := range o.signingKeys {
		k, err := pathinfo.ReadSecretKey(file)
		if err != nil {
			return none, fmt.Errorf("--signing-key: %w", err)
		}
		n.SigningKeys = append(n.SigningKeys, k)
	}
	return n, nil
}

// openUploads opens the table of uploads of the store at a.
func (o *bridgeOptions) openUploads(a storeaddr.Addresses) (*uploads.Table, error) {
	file := o.uploads
	if file == "" {
		var err error
		if file, err = uploadsFile(a); err != nil {
			return nil, err
		}
	}
	return uploads.Open(file, uploads.Limits{Age: o.uploadAge, Rows: o.uploadsAtMost})
}

// uploadsFile is where the table of uploads of a store is: beside the database of
// path infos; of a store that is elsewhere in the directory of the embedded
// store, under a name of its own. It is empty, for a table in memory, if the
// store is.
func uploadsFile(a storeaddr.Addresses) (string, error) {
	if strings.HasPrefix(a.Blobs, "memory:") {
		return "", nil
	}
	dir, err := rootsDir(a)
	if err == nil && dir != "" {
		return filepath.Join(string(dir), "uploads.sqlite"), nil
	}
	base := storeaddr.DefaultDir()
	if base == "" {
		return "", errors.New("no home directory is known to keep the table of uploads in: set --uploads")
	}
	if err == nil {
		return filepath.Join(base, "uploads.sqlite"), nil
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{a.Blobs, a.Directories, a.PathInfos, a.Composition}, "\n")))
	return filepath.Join(base, "uploads-"+hex.EncodeToString(sum[:4])+".sqlite"), nil
}
