package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/internal/kernelimage"
	"storeboot/mkinitrd/bootcheck"
	"storeboot/mkinitrd/unpack"
)

type checkOptions struct {
	kernel     string
	config     string
	modulesDir string
	json       bool
}

func newCheckCommand() *cobra.Command {
	var o checkOptions
	c := &cobra.Command{
		Use:   "check IMAGE --kernel VMLINUZ",
		Short: "Check that a kernel can boot an initrd",
		Long: `check finds out, without booting it, whether a kernel can boot an initrd of
whatever builder: it unpacks the image by the kernel's own rules, which drop
entries without a message and stop at the first thing they do not like, and looks
at what is left. It holds that

  - every segment is read, and no entry is dropped or changed
  - the kernel has the compressions that the image uses
  - /init is there, executable and for this machine, with its loader, its
    libraries or the interpreter that it names
  - every module was built for this kernel, and what it depends on is there
  - what storeboot's init is to do (/etc/storeboot/boot.json), the kernel can do:
    drivers and file systems are built in, or loaded

The kernel's configuration is config-RELEASE or .config beside the kernel, or
what the kernel has of it inside. Without one, or without --kernel, less can be
checked, and check says so. The exit status is 1 if the guest would not come up.`,
		Example: `  mkinitrd check initrd --kernel /boot/vmlinuz-$(uname -r)
  mkinitrd check initrd --kernel bzImage --config .config --json`,
		Args: cli.ExactArgs("IMAGE"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.OutOrStdout(), args[0])
		},
	}
	f := c.Flags()
	f.StringVarP(&o.kernel, "kernel", "k", "", "the guest's kernel `image`")
	f.StringVar(&o.config, "config", "", "the kernel's configuration `file` (default: beside the kernel, or in it)")
	f.StringVar(&o.modulesDir, "modules-dir", "", "`directory` of the kernel's modules (default: /lib/modules/RELEASE)")
	f.BoolVar(&o.json, "json", false, "print what was found as JSON")
	return c
}

// checkResult is the JSON form of a check.
type checkResult struct {
	File     string              `json:"file"`
	Boots    bool                `json:"boots"` // nothing speaks against it
	Kernel   string              `json:"kernel,omitempty"`
	Release  string              `json:"release,omitempty"`
	Config   string              `json:"config,omitempty"`
	Unpacked int64               `json:"unpacked"`
	Findings []bootcheck.Finding `json:"findings"`
}

func (o checkOptions) run(w io.Writer, image string) error {
	k, err := findBootKernel(o.kernel, o.config, o.modulesDir, bootcheck.FindConfig)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	f, err := readInitrd(image)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer f.Close()
	list, unpacked, err := checkImage(f, k)
	if err != nil {
		return fmt.Errorf("check %s: %w", image, err)
	}
	worst := bootcheck.Worst(list)
	if o.json {
		r := checkResult{File: image, Boots: worst != bootcheck.Error, Kernel: o.kernel, Release: k.Release, Unpacked: unpacked, Findings: list}
		if k.Config != nil {
			r.Config = k.Config.From
		}
		if r.Findings == nil {
			r.Findings = []bootcheck.Finding{}
		}
		j := json.NewEncoder(w)
		j.SetIndent("", "  ")
		err = j.Encode(r)
	} else {
		for _, x := range list {
			if _, err = fmt.Fprintf(w, "%s: %s\n", x.Level, printable(x.String())); err != nil {
				break
			}
		}
	}
	switch {
	case err != nil:
		return err
	case worst != bootcheck.Error && o.json:
		return nil
	case worst != bootcheck.Error:
		kernel := "the kernel"
		if k.Release != "" {
			kernel = "kernel " + k.Release
		}
		_, err := fmt.Fprintf(w, "ok: nothing found that keeps %s from booting it\n", kernel)
		return err
	case o.json:
		return &cli.StatusError{Status: cli.ExitFailure}
	}
	return fmt.Errorf("check %s: %s", image, summary(list))
}

// summary is one line on the errors in a list.
func summary(list []bootcheck.Finding) string {
	n, first := 0, ""
	for _, x := range list {
		if x.Level == bootcheck.Error {
			if n == 0 {
				first = printable(x.String())
			}
			n++
		}
	}
	if n > 1 {
		return fmt.Sprintf("would not boot: %s (and %d more)", first, n-1)
	}
	return "would not boot: " + first
}

// checkImage unpacks an image and checks it.
func checkImage(r io.Reader, k bootcheck.Kernel) ([]bootcheck.Finding, int64, error) {
	spool := new(unpack.Spool)
	defer spool.Close()
	res, err := unpack.Run(r, unpack.Kernel{Lacks: k.Config.Lacks()}, spool)
	if err != nil {
		return nil, 0, err
	}
	return bootcheck.Check(res, k), res.Data, nil
}

// findBootKernel finds out what can be known about a kernel; find looks for its
// configuration. The other arguments may be empty.
func findBootKernel(path, config, modules string, find func(path, release string) (*bootcheck.Config, error)) (bootcheck.Kernel, error) {
	var k bootcheck.Kernel
	if path != "" {
		img, err := kernelimage.Open(path)
		if err != nil {
			return k, err
		}
		k.Release, k.Arch = img.Release, img.Arch
		if config == "" {
			// What is beside a kernel by chance is not worth an error.
			k.Config, _ = find(path, img.Release)
		}
	}
	if config != "" {
		c, err := bootcheck.ReadConfig(config)
		if err != nil {
			return k, fmt.Errorf("read kernel configuration: %w", err)
		}
		k.Config = c
	}
	if modules == "" && k.Release != "" {
		modules = filepath.Join(modulesDir, k.Release)
	}
	if modules == "" {
		return k, nil
	}
	data, err := os.ReadFile(filepath.Join(modules, builtinList))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return k, err
	}
	k.Builtin = map[string]bool{}
	for line := range strings.SplitSeq(string(data), "\n") {
		name := strings.TrimSuffix(filepath.Base(line), ".ko")
		k.Builtin[strings.ReplaceAll(name, "-", "_")] = true
	}
	return k, nil
}
