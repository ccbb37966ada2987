package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"storeboot/internal/cli"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/gobuild"
	"storeboot/mkinitrd/image"
	"storeboot/templates"
)

type buildOptions struct {
	template    string
	additions   additions
	kernel      string
	output      string
	compression string
	level       int
	modulesDir  string
	noModules   bool
	programs    programOptions
	sysroot     string
	segmentSize sizeValue
	maxSize     sizeValue
	manifest    manifestOptions
	uki         ukiOptions
	noCheck     bool
	json        bool
	verbose     bool
}

func newBuildCommand() *cobra.Command {
	var o buildOptions
	c := &cobra.Command{
		Use:   "build -o FILE",
		Short: "Build an initrd from a template",
		Long: `build makes an initrd from a template and writes it to FILE ("-": standard
output), which appears whole or not at all.

The kernel decides which modules go in: those of the template and all they need,
in load order, from /lib/modules/RELEASE, less what is built in. Without
--kernel it is the newest one in /boot that has its modules, and build says so.

init, the shell and the tools are built with the go command from storeboot's
source: --source, $STOREBOOT_SOURCE, or the source that mkinitrd or the working
directory lies in. They are kept in $XDG_CACHE_HOME/storeboot/mkinitrd, as are
compressed segments. Without source or Go, a released mkinitrd takes the programs
that it carries, and any other the init beside it.

--set gives the template's parameters their values; --module, --command, --binary
and --file add to its lists. The same input gives the same bytes, on any machine;
entries have the time of $SOURCE_DATE_EPOCH, or else 0.

What is written is checked as mkinitrd check does: an image that the kernel would
not boot is an error, unless --no-check is given.`,
		Example: `  mkinitrd build --template store --kernel /boot/vmlinuz-$(uname -r) -o initrd
  mkinitrd build --template ./mine.yaml -o initrd --compression none
  mkinitrd build --template shell -o - | zstd -dc | cpio -tv
  mkinitrd build --template vmtest --set binary=./foo.test -o initrd
  mkinitrd build --template shell --binary strace --manifest initrd.manifest.json -o initrd
  mkinitrd build --uki --cmdline "console=ttyS0 storeboot.shell" -o linux.efi`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return o.run(c.Context(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f := c.Flags()
	f.StringVarP(&o.template, "template", "t", "store", "built-in template, or FILE.yaml (see: mkinitrd templates)")
	f.StringVarP(&o.kernel, "kernel", "k", "", "the guest's kernel `image` (default: the newest in /boot)")
	f.StringVarP(&o.output, "output", "o", "", "`file` to write, - for standard output")
	f.StringVarP(&o.compression, "compression", "c", string(compress.Default), "zstd, gzip, lz4, xz or none")
	f.IntVar(&o.level, "level", 0, "compression level: 1 to 22 for zstd, 1 to 9 for gzip and lz4, 0 for the default")
	f.StringVar(&o.modulesDir, "modules-dir", "", "`directory` of the kernel's modules (default: /lib/modules/RELEASE)")
	f.BoolVar(&o.noModules, "no-modules", false, "put no modules in: the kernel has all that is needed built in")
	f.StringVar(&o.programs.init, "init", "", "static program to be /init (default: built from source)")
	f.StringVar(&o.programs.source, "source", "", "`directory` of storeboot's source")
	f.StringVar(&o.sysroot, "sysroot", "", "root `directory` that binaries, libraries and firmware are taken from (default: this machine's)")
	f.Var(&o.segmentSize, "segment-size", "cut into segments of at most so much data, compressed in parallel: `SIZE` as in 8M (default: one segment)")
	f.Var(&o.maxSize, "max-size", "`SIZE`, as in 8M, that the initrd may have at most (default: the template's)")
	o.additions.flags(f)
	o.manifest.flags(f)
	o.uki.flags(f)
	f.BoolVar(&o.noCheck, "no-check", false, "do not check that the kernel can boot the image (see: mkinitrd check)")
	f.BoolVar(&o.json, "json", false, "print what was built as JSON")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what is done")
	return c
}

// buildResult is the JSON form of a build.
type buildResult struct {
	File        string         `json:"file"`
	Size        int64          `json:"size"`
	Template    string         `json:"template"`
	Kernel      string         `json:"kernel,omitempty"`
	Release     string         `json:"release,omitempty"`
	Compression compress.Codec `json:"compression"`
	Unpacked    int64          `json:"unpacked"`
	Entries     []buildEntry   `json:"entries"`
}

type buildEntry struct {
	Path string `json:"path"`
	Size int64  `json:"size"`
	Why  string `json:"why"`
	By   string `json:"by,omitempty"`
	At   string `json:"at,omitempty"`
}

func (o buildOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	codec, err := o.check()
	if err != nil {
		return err
	}
	log := o.logger(stderr)
	tmpl, err := templates.Load(o.template, o.additions.parameters)
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if tmpl, err = o.additions.apply(tmpl); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	epoch, err := sourceDate()
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	cache, err := gobuild.NewCache("")
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	out, err := createOutput(o.output, stdout)
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	defer out.discard()
	k, err := o.findKernel(tmpl)
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	b := image.Builder{
		Template: tmpl, Modules: k.modules, Kernel: k.release, Arch: k.arch, Log: log,
		Sysroot: o.sysroot, SegmentSize: int64(o.segmentSize), Time: epoch,
	}
	if err := o.programs.find(ctx, &b, cache, log); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	img, err := b.Build()
	if err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("build: interrupted: %w", err)
	}
	w := o.writer(tmpl, cache, codec, log)
	if err := w.write(img, k, out); err != nil {
		return fmt.Errorf("build %s: %w", o.output, err)
	}
	if err := out.commit(); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if err := w.writeManifests(img, k, epoch); err != nil {
		return fmt.Errorf("build: %w", err)
	}
	if k.chosen && !o.json {
		fmt.Fprintf(stderr, "mkinitrd: the initrd is for %s: name another kernel with --kernel\n", k.path)
	}
	log.Info("built", "file", o.output, "size", out.n, "template", tmpl.Name, "kernel", k.release)
	if o.json {
		return o.print(stdout, img, out.n, k, codec)
	}
	return nil
}

// check holds what the command line alone can be checked for.
func (o buildOptions) check() (compress.Codec, error) {
	codec, err := compress.Parse(o.compression)
	if err == nil {
		err = codec.CheckLevel(o.level)
	}
	switch {
	case err != nil:
		return "", &cli.UsageError{Err: err}
	case o.output == "":
		return "", cli.Usagef("-o FILE is missing")
	case o.output == "-" && o.json:
		return "", cli.Usagef("--json and -o - exclude each other: both write to standard output")
	case o.uki.set() && !o.uki.enabled:
		return "", cli.Usagef("--cmdline, --stub and --os-release are for --uki, which is missing")
	case o.noModules && o.modulesDir != "":
		return "", cli.Usagef("--no-modules and --modules-dir exclude each other")
	}
	return codec, nil
}

// logger speaks if asked to, and to a person who waits.
func (o buildOptions) logger(stderr io.Writer) *slog.Logger {
	level := slog.LevelWarn
	if f, ok := stderr.(*os.File); o.verbose || ok && term.IsTerminal(int(f.Fd())) {
		level = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func (o buildOptions) print(w io.Writer, img *image.Image, size int64, k *kernel, codec compress.Codec) error {
	r := buildResult{
		File: o.output, Size: size, Template: o.template, Kernel: k.path, Release: k.release,
		Compression: codec, Unpacked: img.Size(),
	}
	for _, s := range img.Segments {
		for _, e := range s.Entries {
			r.Entries = append(r.Entries, buildEntry{"/" + e.Name, e.Size, e.Why, e.By, e.At})
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
