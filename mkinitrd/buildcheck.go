package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"storeboot/mkinitrd/bootcheck"
)

// buildCheck checks an initrd while it is written: what is written to it is
// what a kernel would read.
type buildCheck struct {
	*io.PipeWriter
	done chan struct{}
	list []bootcheck.Finding
	err  error
}

// startCheck begins a check for the kernel; close or finish ends it.
func startCheck(k *kernel) (*buildCheck, error) {
	dir := ""
	if k.modules != nil {
		dir = k.modules.Dir()
	}
	facts, err := findBootKernel(k.path, "", dir, bootcheck.ConfigBeside)
	if err != nil {
		return nil, err
	}
	if facts.Release == "" {
		facts.Release, facts.Arch = k.release, k.arch
	}
	r, w := io.Pipe()
	c := &buildCheck{PipeWriter: w, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.list, _, c.err = checkImage(r, facts)
		// The writer is not to wait for who has seen enough.
		_, _ = io.Copy(io.Discard, r)
	}()
	return c, nil
}

// stop ends a check whose image was not written whole; it may be called twice.
func (c *buildCheck) stop() {
	_ = c.CloseWithError(errors.New("the build failed"))
	<-c.done
}

// finish waits for the check's outcome: an error if the image would not boot.
func (c *buildCheck) finish(log *slog.Logger) error {
	_ = c.Close()
	<-c.done
	if c.err != nil {
		return fmt.Errorf("check the image: %w", c.err)
	}
	for _, f := range c.list {
		if f.Level == bootcheck.Warning {
			log.Warn("check", "path", f.Path, "finding", f.Text)
		}
	}
	if bootcheck.Worst(c.list) == bootcheck.Error {
		return fmt.Errorf("the image %s; --no-check writes it all the same", summary(c.list))
	}
	return nil
}
