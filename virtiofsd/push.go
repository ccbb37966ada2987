package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/narcodec"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storecopy"
)

type pushOptions struct {
	addresses   storeaddr.Addresses
	compression string
	keyFiles    []string
	jobs        int
	json        bool
}

func newPushCommand() *cobra.Command {
	o := &pushOptions{}
	c := &cobra.Command{
		Use:   "push URL STOREPATH...",
		Short: "Upload store paths with all they refer to to a Nix binary cache",
		Long: `push uploads each STOREPATH and all that it refers to to a Nix binary cache, and
prints the store paths that it uploaded. What the cache has already is not uploaded
again. A path appears in the cache when its NAR and all that it refers to are
there, so that an upload that is killed leaves nothing incomplete; the next one
goes on.

URL is http(s)://HOST/PATH, whose server takes PUT, file:///DIR or s3://BUCKET. Users
and passwords are those of the netrc file (NETRC, ~/.netrc) or ?netrc-file=FILE, a
bearer token is that of ?token-file=FILE. S3 has ?region=, ?endpoint= and ?profile=,
and the usual environment.

Contents are compared with their hashes before they are uploaded. NARs are packed in
the directory for temporary files (TMPDIR).`,
		Example: `  virtiofsd push file:///srv/cache /nix/store/HASH-hello
  virtiofsd push --signing-key cache.key 'https://cache.example?token-file=/etc/cache-token' /nix/store/HASH-hello
  virtiofsd push --compression none http://localhost:9000 /nix/store/HASH-hello`,
		Args: cli.MinArgs("URL", "STOREPATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], args[1:], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddFlags(f)
	f.StringVar(&o.compression, "compression", "", "compress NARs with `NAME`: none, zstd, xz or gzip (default zstd, or that of the URL)")
	f.StringArrayVar(&o.keyFiles, "signing-key", nil, "sign paths with the secret key in this `FILE`, as nix-store --generate-binary-cache-key makes (may be repeated)")
	f.IntVar(&o.jobs, "jobs", 4, "upload this `NUMBER` of paths at once")
	f.BoolVar(&o.json, "json", false, "print the closure as JSON, with what was uploaded")
	return c
}

// pushJSON is the JSON form of one path of an uploaded closure.
type pushJSON struct {
	pathJSON
	Uploaded bool `json:"uploaded"` // false: the cache had it already
}

// upload is the upload of a closure.
type upload struct {
	from        storecopy.Store
	cache       *binarycache.Cache
	compression string
	keys        []pathinfo.SecretKey
	jobs        int
	progress    *progress
}

func (o *pushOptions) run(ctx context.Context, url string, args []string, stdout, stderr io.Writer) error {
	var paths []storepath.StorePath
	for _, arg := range args {
		p, err := wholePath(arg)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	u, err := o.upload(ctx, url)
	if err != nil {
		return err
	}
	defer u.cache.Close()
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	u.from = storecopy.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos}
	done, err := u.run(ctx, store, paths, stderr)
	if err = errors.Join(err, o.print(stdout, done), store.Close()); err != nil {
		return fmt.Errorf("push: %w", err)
	}
	return nil
}

// upload checks the flags and opens the cache.
func (o *pushOptions) upload(ctx context.Context, url string) (*upload, error) {
	a, err := binarycache.ParseAddress(url)
	if err != nil {
		return nil, cli.Usagef("push: %w", err)
	}
	u := &upload{compression: o.compression, jobs: o.jobs}
	if u.compression == "" {
		u.compression = a.Compression
	}
	if u.compression == "" {
		u.compression = "zstd"
	}
	if err := narcodec.CheckWriter(u.compression); err != nil {
		return nil, cli.Usagef("push: --compression: %w", err)
	}
	if o.jobs < 1 || o.jobs > 64 {
		return nil, cli.Usagef("push: --jobs %d: want a number from 1 to 64", o.jobs)
	}
	for _, file := range o.keyFiles {
		k, err := pathinfo.ReadSecretKey(file)
		if err != nil {
			return nil, fmt.Errorf("push: %w", err)
		}
		u.keys = append(u.keys, k)
	}
	if u.cache, err = binarycache.Open(ctx, a); err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	return u, nil
}

// run uploads the closure of paths and returns what was done, also beside an
// error.
func (u *upload) run(ctx context.Context, store *storeaddr.Store, paths []storepath.StorePath, stderr io.Writer) ([]pushJSON, error) {
	release, err := gc.Hold(ctx, store.Blobs)
	if err != nil {
		return nil, err
	}
	defer release()
	for _, p := range paths {
		if _, err := getPathInfo(ctx, store, p); err != nil {
			return nil, err
		}
	}
	closure, err := storecopy.Closure(ctx, store.PathInfos, store.PathInfos, paths)
	if err != nil {
		return nil, err
	}
	if err := u.cache.Init(ctx); err != nil {
		return nil, err
	}
	u.progress = newPathProgress(stderr, closure)
	defer u.progress.end()
	there := map[storepath.StorePath]chan struct{}{} // closed when the cache has it
	for _, info := range closure {
		there[info.StorePath] = make(chan struct{})
	}
	var mu sync.Mutex
	uploaded, finished := map[storepath.StorePath]bool{}, map[storepath.StorePath]bool{}
	group, working := errgroup.WithContext(ctx)
	group.SetLimit(u.jobs) // begun in order: what one waits for is under way or done
	for _, info := range closure {
		if working.Err() != nil {
			break
		}
		group.Go(func() error {
			isNew, err := u.path(working, info, there)
			if err != nil {
				return fmt.Errorf("%s: %w", info.StorePath.Absolute(), err)
			}
			close(there[info.StorePath])
			u.progress.path()
			mu.Lock()
			defer mu.Unlock()
			finished[info.StorePath], uploaded[info.StorePath] = true, isNew
			return nil
		})
	}
	err = group.Wait()
	done := []pushJSON{}
	for _, info := range closure {
		if finished[info.StorePath] {
			done = append(done, pushJSON{newPathJSON(info), uploaded[info.StorePath]})
		}
	}
	return done, err
}

// path uploads a path unless the cache has it.
func (u *upload) path(ctx context.Context, info *pathinfo.PathInfo, there map[storepath.StorePath]chan struct{}) (isNew bool, err error) {
	has, err := u.cache.Has(ctx, info.StorePath.Hash)
	if err != nil {
		return false, err
	}
	if has {
		u.progress.add(0, int64(info.NarSize))
		return false, nil
	}
	_, err = u.cache.PutPath(ctx, info, binarycache.Upload{
		Compression: u.compression,
		Keys:        u.keys,
		WriteNAR: func(w io.Writer) error {
			return castorenar.Write(ctx, w, info.Node, u.from.Blobs, u.from.Directories)
		},
		References: func(ctx context.Context) error {
			for _, r := range info.References {
				if there[r] == nil || r == info.StorePath {
					continue
				}
				select {
				case <-there[r]:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		},
		Progress: func(n int64) { u.progress.add(0, n) },
	})
	return err == nil, err
}

func (o *pushOptions) print(w io.Writer, done []pushJSON) error {
	if o.json {
		if done == nil {
			done = []pushJSON{}
		}
		return writeJSON(w, done)
	}
	for _, d := range done {
		if !d.Uploaded {
			continue
		}
		if _, err := fmt.Fprintln(w, d.Path); err != nil {
			return err
		}
	}
	return nil
}
