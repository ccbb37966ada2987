package storeaddr

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/composition"
	"storeboot/virtiofsd/pathinfo"
)

// Addresses say where a store is. An empty one stands for the embedded store in
// Dir; an empty Dir stands for [DefaultDir].
type Addresses struct {
	Dir         string
	Blobs       string
	Directories string
	PathInfos   string
	// Composition is a composition file. The others have no meaning then.
	Composition string
	// Substituters, unless nil, are caches in which paths are looked for that the
	// store lacks.
	Substituters *Substituters
	// Log is told what the store can do without: a cache that cannot be written,
	// say. nil: nothing is.
	Log *slog.Logger
}

// compositionEnv is the variable that tvix and snix read.
const compositionEnv = "EXPERIMENTAL_STORE_COMPOSITION"

// AddFlags adds the flags that set a, with the environment as their defaults.
func (a *Addresses) AddFlags(f *pflag.FlagSet) {
	dir := os.Getenv("STOREBOOT_STORE")
	if dir == "" {
		dir = DefaultDir()
	}
	f.StringVar(&a.Dir, "store", dir, "keep the embedded store in this `DIR` (environment: STOREBOOT_STORE)")
	a.AddServiceFlags(f, Addresses{})
	f.StringVar(&a.Composition, "composition", os.Getenv(compositionEnv), "use the services of this TOML `FILE` instead of addresses (environment: "+compositionEnv+")")
}

// AddServiceFlags adds the flags of tvix and snix alone, with the environment
// and then the addresses of def as their defaults. An address that def lacks
// stands for the embedded store.
func (a *Addresses) AddServiceFlags(f *pflag.FlagSet, def Addresses) {
	for _, x := range []struct {
		to             *string
		flag, env, def string
		kind           kind
	}{
		{&a.Blobs, "blob-service-addr", "BLOB_SERVICE_ADDR", def.Blobs, blobs},
		{&a.Directories, "directory-service-addr", "DIRECTORY_SERVICE_ADDR", def.Directories, directories},
		{&a.PathInfos, "path-info-service-addr", "PATH_INFO_SERVICE_ADDR", def.PathInfos, pathInfos},
	} {
		value := os.Getenv(x.env)
		if value == "" {
			value = x.def
		}
		none := ""
		if x.def == "" {
			none = "; none: the embedded store"
		}
		f.StringVar(x.to, x.flag, value, fmt.Sprintf("`ADDRESS` of the %s, as %s, grpc+unix:///PATH%s (environment: %s)", x.kind, x.kind.forms()[1], none, x.env))
		f.Lookup(x.flag).DefValue = redact(value) // it is in the help, and may hold credentials
	}
	f.StringVar(&a.Composition, "experimental-store-composition", os.Getenv(compositionEnv), "use the services of this TOML `FILE` instead of addresses (environment: "+compositionEnv+")")
	if def == (Addresses{}) {
		_ = f.MarkHidden("experimental-store-composition") // fails for a flag that is not there alone
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

	built *builder
}

// Open opens the store. What is not there yet is made. Servers are connected to
// when they are needed.
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
	b, err := a.prepare(ctx)
	if err != nil {
		return nil, err
	}
	s := &Store{built: b}
	if err := s.open(a); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// prepare checks the addresses, or those of the composition, before anything is
// opened, and completes a.
func (a *Addresses) prepare(ctx context.Context) (*builder, error) {
	if a.Composition != "" {
		c, err := composition.Read(a.Composition)
		if err != nil {
			return nil, err
		}
		a.Blobs, a.Directories, a.PathInfos = composition.Root, composition.Root, composition.Root
		b := newBuilder(ctx, a.Log, c)
		return b, b.checkComposition()
	}
	if err := a.setDefaults(); err != nil {
		return nil, err
	}
	_, err1 := parse(blobs, a.Blobs)
	_, err2 := parse(directories, a.Directories)
	_, err3 := parse(pathInfos, a.PathInfos)
	_, err4 := a.Substituters.parse()
	return newBuilder(ctx, a.Log, nil), errors.Join(err1, err2, err3, err4)
}

func (s *Store) open(a Addresses) (err error) {
	if s.Blobs, err = s.built.blobs(a.Blobs); err != nil {
		return err
	}
	if s.Directories, err = s.built.directories(a.Directories); err != nil {
		return err
	}
	s.built.root = &Store{Blobs: s.Blobs, Directories: s.Directories}
	if a.Substituters != nil {
		s.built.limits = *a.Substituters
	}
	if s.PathInfos, err = s.built.pathInfos(a.PathInfos); err != nil {
		return err
	}
	return s.addSubstituters(a.Substituters)
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

// Close closes all services.
func (s *Store) Close() error {
	if s.built == nil {
		return nil
	}
	return s.built.close()
}
