package storeaddr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"

	"storeboot/virtiofsd/bigtablestore"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/composition"
	"storeboot/virtiofsd/grpcstore"
	"storeboot/virtiofsd/objectstore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/sqlitestore"
	"storeboot/virtiofsd/storecache"
	"storeboot/virtiofsd/substitute"
)

// builder opens services, each once.
type builder struct {
	ctx         context.Context
	log         *slog.Logger             // may be nil
	composition *composition.Composition // nil if the store has none
	limits      Substituters             // of what is fetched from binary caches
	root        *Store                   // whose blobs and directories are open when path infos are

	blobServices      map[string]castore.BlobService // by reference, as are those that follow
	directoryServices map[string]castore.DirectoryService
	pathInfoServices  map[string]pathinfo.Service
	databases         map[string]*sqlitestore.DB // by file
	conns             map[string]*grpcstore.Conn // by address
	substitutes       []*substitute.Service
	// closers close what was opened, the last one first: what is made of others
	// comes after those.
	closers []io.Closer
}

func newBuilder(ctx context.Context, log *slog.Logger, c *composition.Composition) *builder {
	return &builder{
		ctx: ctx, log: log, composition: c,
		blobServices:      map[string]castore.BlobService{},
		directoryServices: map[string]castore.DirectoryService{},
		pathInfoServices:  map[string]pathinfo.Service{},
		databases:         map[string]*sqlitestore.DB{},
		conns:             map[string]*grpcstore.Conn{},
	}
}

// resolve is the address that a reference stands for: an address, or a name of
// the composition.
func (b *builder) resolve(k kind, ref string) (address, error) {
	if b.composition == nil || !composition.IsName(ref) {
		return parse(k, ref)
	}
	s, err := b.composition.Get(k.table(), ref)
	if err != nil {
		return address{}, err
	}
	return b.resolveService(k, s)
}

func (b *builder) resolveService(k kind, s composition.Service) (address, error) {
	switch s.Type {
	case "cache", "combined":
		return address{scheme: "cache", near: s.Near, far: s.Far}, nil
	case "lru":
		return address{scheme: "lru", capacity: s.Capacity}, nil
	case "keyfile-signing":
		return address{scheme: "keyfile-signing", inner: s.Inner, keyFile: s.KeyFile}, nil
	case "nix":
		a, err := parse(k, s.Address)
		if err != nil {
			err = b.composition.Error(s.Line, fmt.Errorf("%s: %w", s, err))
		}
		a.blobs, a.directories = s.Blobs, s.Directories
		return a, err
	}
	a, err := parse(k, s.Address)
	if err != nil {
		return a, b.composition.Error(s.Line, fmt.Errorf("%s: %w", s, err))
	}
	return a, nil
}

// checkComposition checks all addresses of the composition, whether they are
// used or not.
func (b *builder) checkComposition() error {
	for _, k := range []kind{blobs, directories, pathInfos} {
		for _, s := range b.composition.All(k.table()) {
			if _, err := b.resolveService(k, s); err != nil {
				return err
			}
			for _, ref := range []string{s.Near, s.Far, s.Inner} {
				if ref == "" || composition.IsName(ref) {
					continue
				}
				if _, err := parse(k, ref); err != nil {
					return b.composition.Error(s.Line, fmt.Errorf("%s: %w", s, err))
				}
			}
		}
	}
	return nil
}

// once opens what ref stands for, unless it is open. Memory that an address
// stands for is new each time.
func once[S io.Closer](b *builder, k kind, ref string, open map[string]S, make func(address) (S, error)) (S, error) {
	if s, ok := open[ref]; ok {
		return s, nil
	}
	a, err := b.resolve(k, ref)
	var s S
	if err != nil {
		return s, err
	}
	if s, err = make(a); err != nil {
		if a.whole != "" { // its package does not say which service it is
			err = fmt.Errorf("%s: %w", k, err)
		}
		return s, err
	}
	b.closers = append(b.closers, s)
	if a.scheme != "memory" && a.scheme != "lru" && !strings.HasPrefix(a.whole, "objectstore+memory") || composition.IsName(ref) {
		open[ref] = s
	}
	return s, nil
}

func (b *builder) blobs(ref string) (castore.BlobService, error) {
	return once(b, blobs, ref, b.blobServices, func(a address) (castore.BlobService, error) {
		switch a.scheme {
		case "memory":
			return castore.NewMemoryBlobs(), nil
		case "file":
			if err := b.checkForeign(a); err != nil {
				return nil, err
			}
			return fileblobs.Open(a.path)
		case "objectstore":
			return objectstore.OpenBlobs(b.ctx, a.whole)
		case "grpc":
			c, err := b.conn(a.whole)
			if err != nil {
				return nil, err
			}
			return c.Blobs(), nil
		}
		near, err := b.blobs(a.near)
		if err != nil {
			return nil, err
		}
		far, err := b.blobs(a.far)
		if err != nil {
			return nil, err
		}
		return storecache.NewBlobs(near, far, b.log), nil
	})
}

func (b *builder) directories(ref string) (castore.DirectoryService, error) {
	return once(b, directories, ref, b.directoryServices, func(a address) (castore.DirectoryService, error) {
		switch a.scheme {
		case "memory":
			return castore.NewMemoryDirectories(), nil
		case "sqlite":
			db, err := b.database(a)
			if err != nil {
				return nil, err
			}
			return db.Directories(), nil
		case "objectstore":
			return objectstore.OpenDirectories(b.ctx, a.whole)
		case "bigtable":
			return bigtablestore.OpenDirectories(b.ctx, a.whole)
		case "grpc":
			c, err := b.conn(a.whole)
			if err != nil {
				return nil, err
			}
			return c.Directories(), nil
		}
		near, err := b.directories(a.near)
		if err != nil {
			return nil, err
		}
		far, err := b.directories(a.far)
		if err != nil {
			return nil, err
		}
		return storecache.NewDirectories(near, far, b.log), nil
	})
}

func (b *builder) pathInfos(ref string) (pathinfo.Service, error) {
	return once(b, pathInfos, ref, b.pathInfoServices, func(a address) (pathinfo.Service, error) {
		switch a.scheme {
		case "memory":
			return pathinfo.NewMemory(), nil
		case "sqlite":
			db, err := b.database(a)
			if err != nil {
				return nil, err
			}
			return db.PathInfos(), nil
		case "bigtable":
			return bigtablestore.OpenPathInfos(b.ctx, a.whole)
		case "grpc":
			c, err := b.conn(a.whole)
			if err != nil {
				return nil, err
			}
			return c.PathInfos(), nil
		case "lru":
			return storecache.NewLRU(a.capacity)
		case "keyfile-signing":
			key, err := pathinfo.ReadSecretKey(a.keyFile)
			if err != nil {
				return nil, err
			}
			inner, err := b.pathInfos(a.inner)
			if err != nil {
				return nil, err
			}
			return storecache.NewSigning(inner, key), nil
		case "nix":
			return b.binaryCache(a, nil)
		}
		near, err := b.pathInfos(a.near)
		if err != nil {
			return nil, err
		}
		if far, err := b.resolve(pathInfos, a.far); err == nil && far.scheme == "nix" {
			return b.binaryCache(far, near)
		}
		far, err := b.pathInfos(a.far)
		if err != nil {
			return nil, err
		}
		return storecache.NewPathInfos(near, far, b.log), nil
	})
}

func (b *builder) checkForeign(a address) error {
	if !a.foreign {
		return nil
	}
	return refuseForeign(a.path)
}

// database opens a database file once.
func (b *builder) database(a address) (*sqlitestore.DB, error) {
	if db := b.databases[a.path]; db != nil {
		return db, nil
	}
	if err := b.checkForeign(a); err != nil {
		return nil, err
	}
	db, err := sqlitestore.Open(a.path)
	if err != nil {
		return nil, err
	}
	b.databases[a.path] = db
	b.closers = append(b.closers, db)
	return db, nil
}

// conn connects to a server once. What is taken from it closes it.
func (b *builder) conn(addr string) (*grpcstore.Conn, error) {
	key := addr
	if u, err := url.Parse(addr); err == nil {
		u.OmitHost = false // X:/PATH is X:///PATH
		key = u.String()
	}
	if c := b.conns[key]; c != nil {
		return c, nil
	}
	c, err := grpcstore.Dial(b.ctx, addr, grpcstore.Options{})
	if err != nil {
		return nil, err
	}
	b.conns[key] = c
	b.closers = append(b.closers, c)
	return c, nil
}

// close closes all that was opened.
func (b *builder) close() error {
	var errs []error
	for i := len(b.closers) - 1; i >= 0; i-- {
		errs = append(errs, b.closers[i].Close())
	}
	b.closers = nil
	return errors.Join(errs...)
}
