package main

import (
	"io"
	"log/slog"

	"storeboot/internal/cli"
)

// newLogger is the log of a command that runs for long: to w, from level on, as
// text or as lines of JSON.
func newLogger(w io.Writer, level string, asJSON bool) (*slog.Logger, error) {
	var o slog.HandlerOptions
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, cli.Usagef("--log-level %q: want debug, info, warn or error", level)
	}
	o.Level = least
	if asJSON {
		return slog.New(slog.NewJSONHandler(w, &o)), nil
	}
	return slog.New(slog.NewTextHandler(w, &o)), nil
}
