package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/mkinitrd/archive"
	"storeboot/mkinitrd/manifest"
)

type whyOptions struct {
	manifest string
	json     bool
}

func newWhyCommand() *cobra.Command {
	var o whyOptions
	c := &cobra.Command{
		Use:   "why IMAGE PATH",
		Short: "Say why an entry is in an image",
		Long: `why says what an entry of an image is there for: the line of the template that
asks for it, or the program, library or module that needs it, and what needs that
in turn.

It reads the image's manifest, which mkinitrd build --manifest wrote beside it
(IMAGE.manifest.json, or --manifest FILE), or --embed-manifest into it.`,
		Example: `  mkinitrd build --template rescue --manifest initrd.manifest.json -o initrd
  mkinitrd why initrd /lib/x86_64-linux-gnu/libc.so.6`,
		Args: cli.ExactArgs("IMAGE", "PATH"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.OutOrStdout(), args[0], args[1]) },
	}
	c.Flags().StringVar(&o.manifest, "manifest", "", "manifest `FILE` (default: IMAGE.manifest.json, or the one in the image)")
	c.Flags().BoolVar(&o.json, "json", false, "print as JSON")
	return c
}

func (o whyOptions) run(w io.Writer, file, path string) error {
	m, err := o.find(file)
	if err != nil {
		return fmt.Errorf("why %s: %w", file, err)
	}
	chain, err := m.Why(path)
	if err != nil {
		return fmt.Errorf("why %s: %w", file, err)
	}
	if o.json {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(chain)
	}
	for i, e := range chain {
		line := strings.Repeat("  ", i) + e.Path + ": " + e.Why
		if e.At != "" {
			line += " (" + e.At + ")"
		}
		if e.Origin != "" {
			line += ", from " + e.Origin
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// find reads the manifest that was named, or lies beside the image, or in it.
func (o whyOptions) find(file string) (*manifest.Manifest, error) {
	if _, err := os.Stat(file); err != nil {
		return nil, err
	}
	name := o.manifest
	if name == "" {
		name = file + ".manifest.json"
	}
	f, err := os.Open(name)
	if err != nil {
		if o.manifest == "" && errors.Is(err, fs.ErrNotExist) {
			return embedded(file)
		}
		return nil, err
	}
	defer f.Close()
	m, err := manifest.Parse(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return m, checkDigest(m, file, name)
}

// checkDigest holds that the manifest is that of the image as it is.
func checkDigest(m *manifest.Manifest, file, name string) error {
	if m.Image == nil {
		return fmt.Errorf("%s: is a manifest from within an image: it does not say of which", name)
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != m.Image.SHA256 {
		return fmt.Errorf("%s: is the manifest of another image: build again with --manifest", name)
	}
	return nil
}

// embedded reads the manifest in the image.
func embedded(file string) (*manifest.Manifest, error) {
	f, err := readInitrd(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var m *manifest.Manifest
	_, err = archive.Walk(f, func(e archive.Entry) error {
		if "/"+e.Name != manifest.EmbeddedPath {
			return nil
		}
		m, err = manifest.Parse(e.Data)
		if err != nil {
			return err
		}
		return archive.ErrStop
	})
	if err == nil && m == nil {
		err = fmt.Errorf("no manifest is beside it or in it: build it with --manifest %s.manifest.json or --embed-manifest", file)
	}
	return m, err
}
