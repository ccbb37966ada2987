package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	dir     string
	rounds  int
	million bool
	json    bool
	only    *regexp.Regexp // rows to measure; nil: all
	daemons string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o, err := parse()
	if err == nil {
		err = run(ctx, o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fsbench:", err)
		os.Exit(1)
	}
}

func parse() (o options, err error) {
	var only string
	flag.StringVar(&o.dir, "dir", "", "make the tree and the store in this `DIR`, and keep them for the next run")
	flag.IntVar(&o.rounds, "rounds", 3, "measure each daemon this often, in turn")
	flag.BoolVar(&o.million, "million", false, "also walk 1,000,000 files (4 GiB on disk, some minutes)")
	flag.BoolVar(&o.json, "json", false, "print every figure as JSON")
	flag.StringVar(&only, "only", "", "measure the rows that this regular `EXPRESSION` matches")
	flag.StringVar(&o.daemons, "daemons", "ours,QEMU,Rust", "measure these daemons")
	flag.Parse()
	if only != "" {
		o.only, err = regexp.Compile(only)
	}
	if err == nil && o.rounds < 1 {
		err = fmt.Errorf("-rounds %d: want at least 1", o.rounds)
	}
	return o, err
}

func run(ctx context.Context, o options) (err error) {
	if o.dir == "" {
		dir, err := os.MkdirTemp("/var/tmp", "storeboot-fsbench-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.dir = dir
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	path, err := prepare(ctx, o)
	if err != nil {
		return err
	}
	daemons, err := o.findDaemons(path)
	if err != nil {
		return err
	}
	rows := newTable(daemons, o.only)
	before := load()
	for n := range o.rounds {
		for _, d := range daemons {
			fmt.Fprintf(os.Stderr, "\rfsbench: round %d of %d: %-20s", n+1, o.rounds, d.name)
			if err := measure(ctx, o, d, rows); err != nil {
				fmt.Fprintln(os.Stderr)
				return fmt.Errorf("%s: %w", d.name, err)
			}
		}
		if err := measureFloor(o, rows); err != nil {
			return err
		}
	}
	fmt.Fprintf(os.Stderr, "\r%-60s\r", "")
	return rows.report(os.Stdout, o, before)
}

// load is the load average of the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
