package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/launcher/session"
	"storeboot/launcher/timeline"
)

// writeReport writes where the time went, if --report asks for it.
func (j *job) writeReport(r *session.Result, _ *session.Config) error {
	if j.report == "" {
		return nil
	}
	if r.Timeline == nil {
		return fmt.Errorf("--report: the VM told nothing of its times")
	}
	if j.report == "-" {
		return r.Timeline.Table(j.err)
	}
	f, err := os.Create(j.report)
	if err == nil {
		err = drawTimeline(f, r.Timeline, filepath.Ext(j.report))
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("--report: %w", err)
	}
	return nil
}

func drawTimeline(w io.Writer, t *timeline.Timeline, format string) error {
	switch format {
	case ".json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(t)
	case ".svg":
		return t.SVG(w)
	case ".html":
		return t.HTML(w)
	}
	return t.Table(w)
}

func newReportCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "report FILE.json",
		Short: "Show where the time of a boot went",
		Long: `report shows what launcher run, boot, find or shell wrote with --report FILE.json:
how long the launcher, the store daemon, the monitor, the guest's kernel, each step
of init and the program took. --report - shows the table at once.`,
		Example: `  launcher run --report boot.json /nix/store/HASH-hello-2.12/bin/hello
  launcher report boot.json
  launcher report --format html boot.json >boot.html`,
		Args: cli.ExactArgs("FILE.json"),
		RunE: func(c *cobra.Command, args []string) error {
			if format != "table" && format != "svg" && format != "html" && format != "json" {
				return cli.Usagef("--format %s: there are table, svg, html and json", format)
			}
			data, err := readLimited(args[0])
			if err != nil {
				return err
			}
			t, err := timeline.Parse(data)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			return drawTimeline(c.OutOrStdout(), t, "."+format)
		},
	}
	c.Flags().StringVar(&format, "format", "table", "table, svg, html or json")
	return c
}
