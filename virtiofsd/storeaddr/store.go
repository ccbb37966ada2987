package storeaddr

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/fileblobs"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/sqlitestore"
)

// Addresses say where a store is. An empty one stands for the embedded store in
// Dir; an empty Dir stands for [DefaultDir].
type Addresses struct {
	Dir         string
	Blobs       string
	Directories string
	PathInfos   string
}

// AddFlags adds the flags that set a, with the environment as their defaults.
func (a *Addresses) AddFlags(f *pflag.FlagSet) {
	dir := os.Getenv("STOREBOOT_STORE")
	if dir == "" {
		dir = DefaultDir()
	}
	f.StringVar(&a.Dir, "store", dir, "keep the embedded store in this `DIR` (environment: STOREBOOT_STORE)")
	for _, x := range []struct {
		to        *string
		flag, env string
		kind      kind
	}{
		{&a.Blobs, "blob-service-addr", "BLOB_SERVICE_ADDR", blobs},
		{&a.Directories, "directory-service-addr", "DIRECTORY_SERVICE_ADDR", directories},
		{&a.PathInfos, "path-info-service-addr", "PATH_INFO_SERVICE_ADDR", pathInfos},
	} {
		forms := x.kind.forms()
		f.StringVar(x.to, x.flag, os.Getenv(x.env), fmt.Sprintf("`ADDRESS` of the %s: %s or %s; none: the embedded store (environment: %s)", x.kind, forms[0], forms[1], x.env))
	}
}

// DefaultDir is the directory of the embedded store of the user:
// /var/lib/storeboot for root, else $XDG_DATA_HOME/storeboot or
// ~/.local/share/storeboot. It is empty if the environment does not say where
// the home directory is.
func DefaultDir() string {
	if os.Geteuid() == 0 {
		return "/var/lib/storeboot"
	}
	// A relative XDG_DATA_HOME is to be ignored (XDG Base Directory).
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "storeboot")
	}
	if home, err := os.UserHomeDir(); err == nil && filepath.IsAbs(home) {
		return filepath.Join(home, ".local/share/storeboot")
	}
	return ""
}

// Store is an open store.
type Store struct {
	Blobs       castore.BlobService
	Directories castore.DirectoryService
	PathInfos   pathinfo.Service

	databases map[string]*sqlitestore.DB // by file: both services may be in one
}

// Open opens the store. What is not there yet is made.
func Open(ctx context.Context, a Addresses) (*Store, error) {
	s, err := open(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return s, nil
}

func open(ctx context.Context, a Addresses) (*Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := a.setDefaults(); err != nil {
		return nil, err
	}
	b, err1 := parse(blobs, a.Blobs)
	d, err2 := parse(directories, a.Directories)
	p, err3 := parse(pathInfos, a.PathInfos)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	s := &Store{databases: map[string]*sqlitestore.DB{}}
	if err := s.open(b, d, p); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// setDefaults replaces empty addresses by those of the embedded store.
func (a *Addresses) setDefaults() error {
	if a.Blobs != "" && a.Directories != "" && a.PathInfos != "" {
		return nil
	}
	dir := a.Dir
	if dir == "" {
		dir = DefaultDir()
	}
	if dir == "" {
		return errors.New("no home directory is known to keep the store in: set --store or STOREBOOT_STORE")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if abs == "/" {
		return errors.New("the root directory cannot be a store")
	}
	if a.Blobs == "" {
		a.Blobs = fileAddress("file", abs+"/blobs")
	}
	for _, x := range []*string{&a.Directories, &a.PathInfos} {
		if *x == "" {
			*x = fileAddress("sqlite", abs+"/store.sqlite")
		}
	}
	return nil
}

func (s *Store) open(b, d, p address) (err error) {
	if b.scheme == "memory" {
		s.Blobs = castore.NewMemoryBlobs()
	} else if s.Blobs, err = fileblobs.Open(b.path); err != nil {
		return err
	}
	if d.scheme == "memory" {
		s.Directories = castore.NewMemoryDirectories()
	} else {
		db, err := s.database(d.path)
		if err != nil {
			return err
		}
		s.Directories = db.Directories()
	}
	if p.scheme == "memory" {
		s.PathInfos = pathinfo.NewMemory()
		return nil
	}
	db, err := s.database(p.path)
	if err != nil {
		return err
	}
	s.PathInfos = db.PathInfos()
	return nil
}

// database opens a database file once.
func (s *Store) database(file string) (*sqlitestore.DB, error) {
	if db := s.databases[file]; db != nil {
		return db, nil
	}
	db, err := sqlitestore.Open(file)
	if err == nil {
		s.databases[file] = db
	}
	return db, err
}

// Close closes all services.
func (s *Store) Close() error {
	var errs []error
	if s.Blobs != nil {
		errs = append(errs, s.Blobs.Close())
	}
	if s.Directories != nil {
		errs = append(errs, s.Directories.Close())
	}
	if s.PathInfos != nil {
		errs = append(errs, s.PathInfos.Close())
	}
	for _, db := range s.databases {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}
