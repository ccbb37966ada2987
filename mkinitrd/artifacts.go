package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"storeboot/internal/cli"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/gobuild"
	"storeboot/mkinitrd/image"
	"storeboot/mkinitrd/manifest"
	"storeboot/mkinitrd/uki"
	"storeboot/templates"
)

// manifestOptions say what is written beside an image.
type manifestOptions struct {
	file  string
	sbom  string
	embed bool
}

func (o *manifestOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.file, "manifest", "", "write what the image holds and why to `FILE`, as JSON (see: mkinitrd why)")
	f.StringVar(&o.sbom, "sbom", "", "write a bill of materials to `FILE`, SPDX 2.3 as JSON")
	f.BoolVar(&o.embed, "embed-manifest", false, "put the manifest into the image, as "+manifest.EmbeddedPath)
}

// ukiOptions say how a unified kernel image is made.
type ukiOptions struct {
	enabled   bool
	stub      string
	cmdline   string
	osRelease string
}

func (o *ukiOptions) flags(f *pflag.FlagSet) {
	f.BoolVar(&o.enabled, "uki", false, "write a unified kernel image: kernel, initrd and command line as one UEFI program")
	f.StringVar(&o.stub, "stub", "", "UEFI stub `FILE` of systemd (default: /usr/lib/systemd/boot/efi/linuxARCH.efi.stub)")
	f.StringVar(&o.cmdline, "cmdline", "", "kernel command line of the unified kernel image")
	f.StringVar(&o.osRelease, "os-release", "", "`FILE` with the system's name in the unified kernel image (default: storeboot's own)")
}

func (o *ukiOptions) set() bool { return o.stub != "" || o.cmdline != "" || o.osRelease != "" }

// artifactWriter writes an image and what goes with it.
type artifactWriter struct {
	o       buildOptions
	options image.Options
	limit   int64
	limitAt string
	size    int64     // of the image's file
	sum     hash.Hash // of the file; nil: nobody asks for it
	cache   *gobuild.Cache
	log     *slog.Logger
}

func (o buildOptions) writer(t *templates.Template, cache *gobuild.Cache, codec compress.Codec, log *slog.Logger) *artifactWriter {
	w := &artifactWriter{o: o, limit: t.MaxSize, limitAt: t.MaxSizeAt.String(), cache: cache, log: log}
	if o.manifest.file != "" || o.manifest.sbom != "" {
		w.sum = sha256.New()
	}
	if o.maxSize > 0 {
		w.limit, w.limitAt = int64(o.maxSize), "--max-size"
	}
	w.options = image.Options{Codec: codec, Level: o.level, Keep: func(key string, build func(string) error) (string, error) {
		return cache.Keep(key, "segment", build)
	}}
	return w
}

// write writes the image, or the unified kernel image with it.
func (w *artifactWriter) write(img *image.Image, k *kernel, out io.Writer) error {
	if w.o.manifest.embed {
		if err := w.embed(img, k); err != nil {
			return err
		}
	}
	if w.sum != nil {
		out = io.MultiWriter(out, w.sum)
	}
	if !w.o.uki.enabled {
		return w.writeInitrd(img, k, out)
	}
	parts, err := w.o.uki.parts(k)
	if err != nil {
		return err
	}
	var initrd bytes.Buffer
	if err := w.writeInitrd(img, k, &initrd); err != nil {
		return err
	}
	parts.Initrd = initrd.Bytes()
	c := &sizeCounter{w: out}
	if err := uki.Write(c, parts); err != nil {
		return err
	}
	w.size = c.n
	return nil
}

// writeInitrd writes the initrd, holds its limit, and that the kernel boots it.
func (w *artifactWriter) writeInitrd(img *image.Image, k *kernel, out io.Writer) error {
	var check *buildCheck
	if !w.o.noCheck {
		key, err := img.Key(w.options)
		if err != nil {
			return err
		}
		if check, err = startCheck(k, key, w.cache); err != nil {
			return err
		}
		defer check.stop()
		out = io.MultiWriter(out, check)
	}
	c := &sizeCounter{w: out}
	buffered := bufio.NewWriterSize(c, 1<<20)
	if err := img.WriteWith(buffered, w.options); err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	w.size = c.n
	if w.limit > 0 && c.n > w.limit {
		return fmt.Errorf("%s: the image has %d bytes, and may have %d: see what they are with mkinitrd size, or raise max_size", w.limitAt, c.n, w.limit)
	}
	if check != nil {
		return check.finish(w.log)
	}
	return nil
}

type sizeCounter struct {
	w io.Writer
	n int64
}

func (c *sizeCounter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// parts are those of a unified kernel image but the initrd.
func (o *ukiOptions) parts(k *kernel) (uki.Parts, error) {
	p := uki.Parts{Cmdline: o.cmdline, Uname: k.release}
	if k.path == "" {
		return p, cli.Usagef("--uki needs --kernel FILE")
	}
	stub := o.stub
	if stub == "" {
		name, ok := map[string]string{"amd64": "x64", "arm64": "aa64", "386": "ia32", "riscv64": "riscv64"}[k.arch]
		if !ok {
			return p, fmt.Errorf("unified kernel image: systemd has no stub for %s", k.arch)
		}
		stub = "/usr/lib/systemd/boot/efi/linux" + name + ".efi.stub"
		if _, err := os.Stat(stub); err != nil {
			return p, fmt.Errorf("unified kernel image: no stub: %w: install it (apt-get install systemd-boot-efi), or give --stub FILE", err)
		}
	}
	var err error
	if p.Stub, err = os.ReadFile(stub); err != nil {
		return p, fmt.Errorf("unified kernel image: %w", err)
	}
	if p.Kernel, err = os.ReadFile(k.path); err != nil {
		return p, fmt.Errorf("unified kernel image: %w", err)
	}
	p.OSRelease = fmt.Appendf(nil, "ID=storeboot\nNAME=storeboot\nPRETTY_NAME=\"storeboot %s\"\nVERSION_ID=\"%s\"\n", k.release, k.release)
	if o.osRelease != "" {
		if p.OSRelease, err = os.ReadFile(o.osRelease); err != nil {
			return p, fmt.Errorf("unified kernel image: %w", err)
		}
	}
	return p, nil
}

func (w *artifactWriter) newManifest(img *image.Image, k *kernel) (*manifest.Manifest, error) {
	m, err := manifest.New(img)
	if err != nil {
		return nil, err
	}
	m.Release, m.Arch, m.Compression = k.release, k.arch, string(w.options.Codec)
	return m, nil
}

// embed adds the manifest to the image, as its last segment. It does not speak
// of itself.
func (w *artifactWriter) embed(img *image.Image, k *kernel) error {
	m, err := w.newManifest(img, k)
	if err != nil {
		return err
	}
	data, err := m.Embedded().Encode()
	if err != nil {
		return err
	}
	last := img.Segments[len(img.Segments)-1]
	time := last.Entries[0].MTime
	img.Segments = append(img.Segments, image.Segment{Entries: []image.Entry{{
		Header: newc.Header{Name: strings.TrimPrefix(manifest.EmbeddedPath, "/"), Mode: newc.TypeRegular | 0o644, Size: int64(len(data)), Ino: 1, NLink: 1, MTime: time},
		Data:   data, Reason: image.Reason{Why: "manifest", At: "--embed-manifest"},
	}}})
	return nil
}

// writeManifests writes the manifest and the bill of materials, once the image
// is there.
func (w *artifactWriter) writeManifests(img *image.Image, k *kernel, made uint32) error {
	o := w.o.manifest
	if o.file == "" && o.sbom == "" {
		return nil
	}
	m, err := w.newManifest(img, k)
	if err != nil {
		return err
	}
	m.Image = &manifest.File{Name: filepath.Base(w.o.output), Size: w.size, SHA256: hex.EncodeToString(w.sum.Sum(nil))}
	if o.file != "" {
		data, err := m.Encode()
		if err != nil {
			return err
		}
		if err := writeWhole(o.file, data); err != nil {
			return err
		}
	}
	if o.sbom == "" {
		return nil
	}
	data, err := m.SPDX(time.Unix(int64(made), 0), cli.Version())
	if err != nil {
		return err
	}
	return writeWhole(o.sbom, data)
}

// writeWhole replaces a file as a build does.
func writeWhole(path string, data []byte) error {
	out, err := createOutput(path, io.Discard)
	if err != nil {
		return err
	}
	defer out.discard()
	if _, err := out.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return out.commit()
}
