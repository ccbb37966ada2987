package storeaddr

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"storeboot/virtiofsd/binarycache"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storecache"
	"storeboot/virtiofsd/substitute"
)

// Substituters are binary caches in which paths are looked for that the store
// lacks. What is found is brought into the store.
type Substituters struct {
	// Addresses of the caches, as package binarycache has them.
	Addresses []string
	// Keys are trusted for all of them, in Nix's form with white space between.
	Keys string
	// Prefetch fetches what the paths that are read refer to.
	Prefetch bool
	// Wait is how long a reader waits for a path, without end if 0; Limit is how
	// long the download of a path may take, the default of package substitute if
	// 0.
	Wait, Limit time.Duration
}

// AddReadFlags adds the flags of [Addresses.AddFlags] and those of caches that
// paths are fetched from when they are read. With serves there are flags for
// those who read on behalf of others: whether what paths refer to is fetched
// too, and how long others wait.
func (a *Addresses) AddReadFlags(f *pflag.FlagSet, serves bool) {
	a.AddFlags(f)
	a.AddSubstituterFlags(f, serves)
}

// AddSubstituterFlags adds the flags of caches alone.
func (a *Addresses) AddSubstituterFlags(f *pflag.FlagSet, serves bool) {
	s := &Substituters{}
	a.Substituters = s
	f.StringArrayVar(&s.Addresses, "substituter", nil, "fetch paths that the store lacks from this Nix binary cache, an `ADDRESS` as https://cache.nixos.org, file:///DIR, s3://BUCKET (may be repeated)")
	f.StringVar(&s.Keys, "trusted-public-keys", "", "trust what these `KEYS` have signed in any substituter (NAME:BASE64, with spaces between)")
	f.DurationVar(&s.Limit, "fetch-limit", substitute.DefaultPathTimeout, "give up the download of a path after this `TIME`, however it goes on (what stands still ends by itself, see timeout and stall-timeout of addresses)")
	if serves {
		f.DurationVar(&s.Wait, "fetch-timeout", substitute.DefaultWait, "fail a read (a guest sees EIO) when the path that it needs has not come after this `TIME`, such as 30s or 5m; the download goes on, for a later read (0: wait until it ends)")
		f.BoolVar(&s.Prefetch, "prefetch", true, "fetch from the substituters, in the background, what paths refer to that are read")
	}
}

// parse checks the addresses. Each has to say whom it trusts.
func (s *Substituters) parse() ([]binarycache.Address, error) {
	if s == nil {
		return nil, nil
	}
	keys, err := pathinfo.ParsePublicKeys(s.Keys)
	if err != nil {
		return nil, err
	}
	if s.Wait < 0 || s.Limit < 0 {
		return nil, errors.New("the times to wait for a path and to give it up after (--fetch-timeout, --fetch-limit) cannot be negative")
	}
	var all []binarycache.Address
	for _, addr := range s.Addresses {
		a, err := binarycache.ParseAddress(addr)
		if err != nil {
			return nil, err
		}
		a.Keys = append(a.Keys, keys...)
		if err := a.CheckTrust(); err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, nil
}

// addSubstituters puts the caches behind the path infos of the store.
func (s *Store) addSubstituters(from *Substituters) error {
	addresses, err := from.parse()
	if err != nil || len(addresses) == 0 {
		return err
	}
	service, err := s.built.substitute(s.built.root, s.PathInfos, addresses)
	if err != nil {
		return err
	}
	s.PathInfos = service
	for _, a := range addresses {
		if !a.CastoreLazy {
			continue
		}
		blobs, err := s.built.blobs(a.Castore)
		if err != nil {
			return err
		}
		directories, err := s.built.directories(a.Castore)
		if err != nil {
			return err
		}
		s.Blobs = storecache.NewBlobs(s.Blobs, blobs, s.built.log)
		s.Directories = storecache.NewDirectories(s.Directories, directories, s.built.log)
		s.built.closers = append(s.built.closers, s.Directories, s.Blobs)
	}
	return nil
}

// substitute makes a service of caches in front of near, which may be nil.
func (b *builder) substitute(into *Store, near pathinfo.Service, addresses []binarycache.Address) (*substitute.Service, error) {
	var sources []substitute.Source
	for _, a := range addresses {
		cache, err := binarycache.Open(b.ctx, a)
		if err != nil {
			return nil, err
		}
		b.closers = append(b.closers, cache)
		source := substitute.Source{Cache: cache}
		if a.Castore != "" {
			if source.Blobs, err = b.blobs(a.Castore); err != nil {
				return nil, err
			}
			if source.Directories, err = b.directories(a.Castore); err != nil {
				return nil, err
			}
		}
		sources = append(sources, source)
	}
	store := substitute.Store{Blobs: into.Blobs, Directories: into.Directories, PathInfos: near}
	s, err := substitute.New(store, sources, substitute.Options{Log: b.log, Prefetch: b.limits.Prefetch, Wait: b.limits.Wait, PathTimeout: b.limits.Limit})
	if err != nil {
		return nil, err
	}
	b.closers = append(b.closers, s)
	b.substitutes = append(b.substitutes, s)
	return s, nil
}

// binaryCache opens a nix+ address in front of near, which may be nil.
func (b *builder) binaryCache(a address, near pathinfo.Service) (pathinfo.Service, error) {
	parsed, err := binarycache.ParseAddress(a.whole)
	if err != nil {
		return nil, err
	}
	if parsed.CastoreLazy {
		return nil, fmt.Errorf("binary cache %s: castore-lazy goes with --substituter alone", parsed)
	}
	into := *b.root
	if a.blobs != "" {
		if into.Blobs, err = b.blobs(a.blobs); err != nil {
			return nil, err
		}
	}
	if a.directories != "" {
		if into.Directories, err = b.directories(a.directories); err != nil {
			return nil, err
		}
	}
	return b.substitute(&into, near, []binarycache.Address{parsed})
}

// Substitutes are the services that fetch paths from caches.
func (s *Store) Substitutes() []*substitute.Service { return s.built.substitutes }

// Caches are the addresses, without parameters, of the binary caches that paths
// are fetched from.
func (s *Store) Caches() []string {
	var list []string
	for _, service := range s.built.substitutes {
		list = append(list, service.Caches()...)
	}
	return list
}
