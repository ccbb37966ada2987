package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storefs"
)

// fsFlags are the flags that say how a store is served as a file system.
type fsFlags struct {
	readTimeout time.Duration
	view        viewFlags
}

// viewFlags are those that say how it is shown to one guest.
type viewFlags struct {
	closure []string
	xattr   bool
	rootTTL time.Duration
}

func (o *fsFlags) add(f *pflag.FlagSet) {
	f.DurationVar(&o.readTimeout, "read-timeout", 2*time.Minute, "let a read fail (EIO) that has waited for a store far away for this `TIME`")
	o.view.add(f)
}

func (o *viewFlags) add(f *pflag.FlagSet) {
	f.StringArrayVar(&o.closure, "closure", nil, "show only this store `PATH` and all that it refers to, which then never changes (may be repeated)")
	f.BoolVar(&o.xattr, "xattr", false, "show the digests of files and directories as extended attributes, user.snix.castore.*; costs guests requests")
	f.DurationVar(&o.rootTTL, "root-ttl", time.Second, "let guests take the list of store paths for true for this `TIME`; without meaning with --closure")
}

// view is what the flags say.
func (o *viewFlags) view() (storefs.View, error) {
	v := storefs.View{RootTTL: o.rootTTL}
	if o.rootTTL < 0 {
		return v, cli.Usagef("--root-ttl %v: want a time", o.rootTTL)
	}
	if o.xattr {
		v.DigestPrefix = "user.snix.castore"
	}
	for _, path := range o.closure {
		p, below, err := storepath.ParseAbsolute(path)
		if err == nil && below != "" {
			err = fmt.Errorf("%s is below a store path: name %s", path, p.Absolute())
		}
		if err != nil {
			return v, cli.Usagef("--closure: %w", err)
		}
		v.Closure = append(v.Closure, p)
	}
	return v, nil
}

// open makes the file system of a store, in the view of the flags; or in other
// if that is not nil.
func (o *fsFlags) open(ctx context.Context, store *storeaddr.Store, log *slog.Logger, other *storefs.View) (*storefs.FS, error) {
	if o.readTimeout < 0 {
		return nil, cli.Usagef("--read-timeout %v: want a time", o.readTimeout)
	}
	v, err := o.view.view()
	if err != nil {
		return nil, err
	}
	if other != nil {
		v = *other
	}
	whole := storefs.New(storefs.Store{Blobs: store.Blobs, Directories: store.Directories, PathInfos: store.PathInfos}, storefs.Options{Log: log, ReadTimeout: o.readTimeout})
	fs, err := whole.View(ctx, v)
	if err != nil {
		whole.Close()
		return nil, err
	}
	return fs, nil
}
