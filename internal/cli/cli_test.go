package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// program is a command with one of each thing that Run decides about.
func program() *cobra.Command {
	root := &cobra.Command{Use: "prog", Short: "a program"}
	var n int
	work := &cobra.Command{Use: "work FILE", Short: "works", Args: ExactArgs("FILE"), RunE: func(c *cobra.Command, args []string) error {
		switch args[0] {
		case "fail":
			return errors.Join(errors.New("open x: no such file"), errors.New("open y: no such file"))
		case "status":
			return &StatusError{Status: 42}
		case "told":
			return &StatusError{Status: 127, Err: errors.New("no such program")}
		case "usage":
			return Usagef("--n and --m exclude each other")
		}
		c.Println("did", args[0])
		return nil
	}}
	work.Flags().IntVar(&n, "n", 0, "a number")
	root.AddCommand(work)
	return root
}

func TestRun(t *testing.T) {
	tests := []struct {
		args string
		code int
		err  string // all of stderr; "..." at the end stands for the rest
	}{
		{"work x", 0, ""},
		{"work fail", 1, "prog: open x: no such file; open y: no such file\n"},
		{"work status", 42, ""},
		{"work told", 127, "prog: no such program\n"},
		{"work usage", 2, "prog: --n and --m exclude each other\nprog: see 'prog work --help'\n"},
		{"work", 2, "prog: FILE is missing\nprog: see 'prog work --help'\n"},
		{"work a b", 2, "prog: unexpected argument \"b\"\nprog: see 'prog work --help'\n"},
		{"work --m 1 x", 2, "prog: unknown flag: --m\nprog: see 'prog work --help'\n"},
		{"work --n z x", 2, "prog: invalid argument \"z\" for \"--n\" flag..."},
		{"wrok x", 2, "prog: unknown command \"wrok\"; did you mean work?\nprog: see 'prog --help'\n"},
		{"", 2, "prog: a subcommand is needed\nprog: see 'prog --help'\n"},
		{"--help", 0, ""},
		{"work --help", 0, ""},
		{"--version", 0, ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := Run(context.Background(), program(), strings.Fields(tt.args), Streams{In: strings.NewReader(""), Out: &out, Err: &errOut})
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			got := errOut.String()
			if want, cut := strings.CutSuffix(tt.err, "..."); cut && strings.HasPrefix(got, want) {
				return
			}
			if got != tt.err {
				t.Errorf("stderr %q, want %q", got, tt.err)
			}
		})
	}
}
