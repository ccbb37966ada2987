package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"time"
)

// sample is one boot.
type sample struct {
	First  time.Duration `json:"first_ns"` // until the program's output began
	End    time.Duration `json:"end_ns"`   // until the command ended
	Kernel float64       `json:"kernel_s"` // the guest's clock then, in seconds
}

// limit is how long one boot may take.
const limit = 5 * time.Minute

// greeting is what the program prints: the guest's clock stands behind it.
var greeting = regexp.MustCompile(`Hello, world! (\d+\.\d+)`)

// measure starts the row's command once.
func (r *row) measure(ctx context.Context) (sample, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	start := time.Now()
	c := r.command(ctx)
	out := &watch{start: start}
	var errOut bytes.Buffer
	c.Stdout, c.Stderr = out, &errOut
	c.WaitDelay = 5 * time.Second
	err := c.Run()
	s := sample{First: out.first, End: time.Since(start)}
	m := greeting.FindSubmatch(out.text)
	if err == nil && m == nil {
		err = errors.New("the program's output did not come")
	}
	if err != nil {
		return s, fmt.Errorf("%w\n%s%s", err, out.text, errOut.Bytes())
	}
	s.Kernel, err = strconv.ParseFloat(string(m[1]), 64)
	return s, err
}

// watch keeps what is written, and when the greeting began to come.
type watch struct {
	start time.Time
	first time.Duration
	text  []byte
}

func (w *watch) Write(p []byte) (int, error) {
	w.text = append(w.text, p...)
	if w.first == 0 && bytes.Contains(w.text, []byte("Hello")) {
		w.first = time.Since(w.start)
	}
	return len(p), nil
}
