package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	prepare  string // only make what is needed, in this directory
	dir      string // where that was made
	kernels  []string
	machines []string
	accel    string
	runs     int
	json     bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, parse())
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bootbench:", err)
		os.Exit(1)
	}
}

func parse() options {
	var o options
	var kernels, machines string
	flag.StringVar(&o.prepare, "prepare", "", "make all that is needed in this `DIR`, and measure nothing")
	flag.StringVar(&o.dir, "dir", "", "measure with what was made in this `DIR`")
	flag.StringVar(&kernels, "kernels", "", "kernel images `FILE,...` (default: the newest cloud kernel in /boot)")
	flag.StringVar(&machines, "machines", "", "q35, microvm (which sometimes hangs without KVM), cloud-hypervisor: `NAME,...` (default: q35, with KVM microvm too)")
	flag.StringVar(&o.accel, "accel", "tcg", "`tcg` or kvm")
	flag.IntVar(&o.runs, "runs", 5, "run each row this often")
	flag.BoolVar(&o.json, "json", false, "print every time as JSON")
	flag.Parse()
	switch {
	case machines != "":
		o.machines = strings.Split(machines, ",")
	case o.accel == "kvm":
		o.machines = []string{"q35", "microvm"}
	default:
		o.machines = []string{"q35"}
	}
	if kernels != "" {
		o.kernels = strings.Split(kernels, ",")
	}
	return o
}

func run(ctx context.Context, o options) error {
	if o.dir == "" {
		o.dir = o.prepare
		if o.dir == "" {
			dir, err := os.MkdirTemp("/var/tmp", "storeboot-bootbench-")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			o.dir = dir
		}
		if err := prepare(ctx, o); err != nil {
			return err
		}
		if o.prepare != "" {
			return nil
		}
	}
	var err error
	if o.dir, err = filepath.Abs(o.dir); err != nil {
		return err
	}
	rows, err := o.rows()
	if err != nil {
		return err
	}
	before := load()
	for n := range o.runs {
		for _, r := range rows {
			fmt.Fprintf(os.Stderr, "\rbootbench: run %d of %d: %-50s", n+1, o.runs, r.name())
			t, err := r.measure(ctx)
			if err != nil {
				fmt.Fprintln(os.Stderr)
				return fmt.Errorf("%s: %w", r.name(), err)
			}
			r.times = append(r.times, t)
		}
	}
	fmt.Fprintf(os.Stderr, "\r%-70s\r", "")
	return report(os.Stdout, o, rows, before)
}

// load is the load average of the last minute.
func load() string {
	text, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(text), " ")
	return one
}
