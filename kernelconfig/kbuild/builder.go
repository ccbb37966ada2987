package kbuild

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"storeboot/internal/kconfig"
	"storeboot/internal/kernelimage"
	"storeboot/kernelconfig/fragment"
)

// Options say what to build.
type Options struct {
	Source   string // a tar archive or a directory
	Fragment fragment.Fragment
	Arch     fragment.Arch
	// Set are further options by name, without CONFIG_. They go before those of
	// the fragment, and have to hold too.
	Set map[string]kconfig.Value
	// Cross is the prefix of the compiler's name. Empty: the usual one if Arch is
	// not that of this machine.
	Cross string
	// Cache is where kernels are kept by content. Empty: storeboot/kernels in the
	// user's cache directory.
	Cache string
	// Lock is a file that pins what is built from; it is written if it is missing
	// or UpdateLock is set. Empty: nothing is pinned.
	Lock       string
	UpdateLock bool
	Jobs       int // of make; 0: one for each CPU
	Log        *slog.Logger
	// Step is called when a step begins, Line with each line that the build
	// prints. Both may be nil.
	Step func(step string)
	Line func(line string)
}

// Result is a kernel that was built, or was there.
type Result struct {
	Dir      string // in the cache
	Manifest Manifest
	Cached   bool // it was there
}

// revision changes with what this package makes of the same inputs.
const revision = "3"

// Build builds the kernel, unless it is in the cache.
func Build(ctx context.Context, o Options) (*Result, error) {
	if o.Jobs <= 0 {
		o.Jobs = runtime.NumCPU()
	}
	if o.Step == nil {
		o.Step = func(string) {}
	}
	tools, err := findToolchain(ctx, o.Arch, o.Cross)
	if err != nil {
		return nil, err
	}
	o.Step("hashing the source")
	source, err := OpenSource(ctx, o.Source)
	if err != nil {
		return nil, err
	}
	text := o.config()
	sum := sha256.Sum256([]byte(o.base() + text))
	lock := Lock{
		Version: lockVersion, Arch: string(o.Arch), Source: source.Digest, Fragments: o.Fragment.Name,
		Config: hex.EncodeToString(sum[:]), Compiler: tools.versions[0], Linker: tools.versions[1],
	}
	writeLock, err := checkLock(o.Lock, o.UpdateLock, lock)
	if err != nil {
		return nil, err
	}
	cache, err := openCache(o.Cache)
	if err != nil {
		return nil, err
	}
	key := lock.key()
	unlock, err := cache.lock(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := cache.get(key)
	if err != nil {
		return nil, err
	}
	if r == nil {
		b := &build{Options: o, tools: tools, source: source, text: text, lock: lock}
		if r, err = cache.put(key, func(dir string) error { return b.run(ctx, dir) }); err != nil {
			return nil, fmt.Errorf("build kernel: %w", err)
		}
	}
	if writeLock {
		lock.Kernel = r.Manifest.Version
		if err := lock.write(o.Lock); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// key is the name of the kernel in the cache.
func (l Lock) key() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{revision, l.Arch, l.Source, l.Fragments, l.Config, l.Compiler, l.Linker}))
	return hex.EncodeToString(sum[:16])
}

// base is the piece of .config that comes first: of what contradicts it later,
// Kconfig takes the later.
func (o *Options) base() string {
	var b strings.Builder
	for _, x := range fragment.Base(o.Arch) {
		b.WriteString(kconfig.Line(x.Name, x.Want()) + "\n")
	}
	return b.String()
}

// config is the piece of .config that the kernel is held to.
func (o *Options) config() string {
	var b strings.Builder
	b.WriteString(kconfig.Line("LOCALVERSION", strconvValue("-storeboot")) + "\n" + kconfig.Line("LOCALVERSION_AUTO", kconfig.No) + "\n")
	for _, name := range sortedKeys(o.Set) {
		b.WriteString(kconfig.Line(name, o.Set[name]) + "\n")
	}
	for _, x := range o.Fragment.Options {
		if _, set := o.Set[x.Name]; !set {
			b.WriteString(kconfig.Line(x.Name, x.Want()) + "\n")
		}
	}
	return b.String()
}

func strconvValue(s string) kconfig.Value { return kconfig.Value(strconv.Quote(s)) }

// build is one build.
type build struct {
	Options
	tools  *toolchain
	source *Source
	text   string
	lock   Lock
	runner runner
}

// run builds into dir: the image, vmlinux, config-RELEASE and manifest.json, and the log
// until the build has succeeded.
func (b *build) run(ctx context.Context, dir string) error {
	work, err := os.MkdirTemp(filepath.Dir(dir), "work-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	log, err := os.Create(dir + ".log")
	if err != nil {
		return err
	}
	defer log.Close()
	b.runner = runner{env: environment(b.tools, work), log: log}
	b.Step("unpacking the source")
	src, err := b.source.unpack(ctx, work, b.runner.run)
	if err != nil {
		return b.fail(err, log.Name())
	}
	version, err := readVersion(src)
	if err != nil {
		return err
	}
	out := filepath.Join(work, "out")
	b.Step("configuring " + version)
	config, err := b.configure(ctx, src, out)
	if err != nil {
		return b.fail(err, log.Name())
	}
	b.Step("building " + version)
	target, image := b.tools.image()
	if err := b.make(ctx, src, out, b.Line, target); err != nil {
		return b.fail(err, log.Name())
	}
	img, err := kernelimage.Open(filepath.Join(out, image))
	if err != nil {
		return err
	}
	// The name under which everything looks for the configuration of a kernel.
	files := map[string]string{target: image, "config-" + img.Release: ".config"}
	if b.Arch == fragment.AMD64 {
		files["vmlinux"] = "arch/x86/boot/compressed/vmlinux.bin" // without symbols
	}
	for name, from := range files {
		if err := os.Rename(filepath.Join(out, from), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	if err := b.checkImages(dir, target); err != nil {
		return err
	}
	return b.writeManifest(dir, version, config, sortedKeys(files))
}

// fail keeps the log of a build that failed, and says where.
func (b *build) fail(err error, log string) error {
	if errors.Is(err, context.Canceled) {
		os.Remove(log)
		return err
	}
	return fmt.Errorf("%w (the whole log: %s)", err, log)
}

// environment is that of the build's programs: nothing of the machine but where
// programs are. home is a directory that they may leave things in.
func environment(t *toolchain, home string) []string {
	return []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "TZ=UTC",
		"ARCH=" + t.kernelArch(), "CROSS_COMPILE=" + t.cross,
		"KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 1970", "KBUILD_BUILD_USER=storeboot",
		"KBUILD_BUILD_HOST=storeboot", "KBUILD_BUILD_VERSION=1",
	}
}

func (b *build) make(ctx context.Context, src, out string, line func(string), args ...string) error {
	all := append([]string{"-C", src, "O=" + out, "-j" + strconv.Itoa(b.Jobs)}, args...)
	return b.runner.run(ctx, &command{step: "make " + args[len(args)-1], name: "make", args: all, line: line})
}

// checkImages says whether what was built is what the launcher can start.
func (b *build) checkImages(dir, image string) error {
	img, err := kernelimage.Open(filepath.Join(dir, image))
	if err != nil {
		return err
	}
	if img.Arch != string(b.Arch) {
		return fmt.Errorf("the image built is for %s, not %s", img.Arch, b.Arch)
	}
	if b.Arch != fragment.AMD64 {
		return nil
	}
	elf, err := kernelimage.Open(filepath.Join(dir, "vmlinux"))
	if err != nil {
		return err
	}
	for _, o := range b.Fragment.Options {
		if o.Name == "PVH" && !elf.PVH {
			return errors.New("vmlinux has no PVH entry, although CONFIG_PVH is on: cloud-hypervisor could not start it")
		}
	}
	return nil
}
