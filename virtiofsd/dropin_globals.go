package main

import (
	"os"
	"strings"

	"github.com/spf13/pflag"

	"storeboot/internal/cli"
)

// dropInGlobals are the flags before the subcommand. The first programs of the
// name had --json and --log-level (2023), the later ones have --otlp.
type dropInGlobals struct {
	otlp     bool
	json     bool
	logLevel string
}

func (g *dropInGlobals) addFlags(f *pflag.FlagSet) {
	f.BoolVar(&g.otlp, "otlp", true, "taken and without effect: no traces are sent anywhere")
	f.BoolVar(&g.json, "json", false, "log as lines of JSON")
	f.StringVar(&g.logLevel, "log-level", "", "least `LEVEL` that is logged: error, warn, info, debug or trace, or 1 to 5 (default: that of RUST_LOG, else info)")
}

// level is the level that the flag sets, else RUST_LOG, in our words.
func (g *dropInGlobals) level() (string, error) {
	if g.logLevel == "" {
		return rustLogLevel(os.Getenv("RUST_LOG")), nil
	}
	if l, ok := ourLevel(g.logLevel); ok {
		return l, nil
	}
	return "", cli.Usagef("--log-level %q: want error, warn, info, debug or trace", g.logLevel)
}

// rustLogLevel is the level of a filter: directives with commas between them, of
// which those for single modules, as MODULE=LEVEL, are passed over.
func rustLogLevel(filter string) string {
	level := "info"
	for d := range strings.SplitSeq(filter, ",") {
		if l, ok := ourLevel(strings.TrimSpace(d)); ok {
			level = l
		}
	}
	return level
}

// noLevel is above all that is logged.
const noLevel = "error+100"

// ourLevel translates a level of the Rust programs.
func ourLevel(s string) (string, bool) {
	switch strings.ToLower(s) {
	case "off", "0":
		return noLevel, true
	case "error", "1":
		return "error", true
	case "warn", "2":
		return "warn", true
	case "info", "3":
		return "info", true
	case "debug", "4", "trace", "5":
		return "debug", true
	}
	return "", false
}
