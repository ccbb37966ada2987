package cli

import (
	"strings"

	"github.com/spf13/cobra"
)

// ExactArgs takes one argument for each of names, which the errors use.
func ExactArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return Usagef("%s is missing", strings.Join(names[len(args):], " and "))
		}
		return noMore(args[len(names):])
	}
}

// MinArgs takes at least one argument for each of names, and any number more.
func MinArgs(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < len(names) {
			return Usagef("%s is missing", strings.Join(names[len(args):], " and "))
		}
		return nil
	}
}

// NoArgs takes no argument.
func NoArgs(_ *cobra.Command, args []string) error { return noMore(args) }

func noMore(args []string) error {
	if len(args) > 0 {
		return Usagef("unexpected argument %q", args[0])
	}
	return nil
}
