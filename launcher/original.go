package main

import (
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
)

// originalOptions are those of the command without a subcommand, which is
// driven by the environment.
type originalOptions struct {
	machine machineOptions
	// bare lets the kernel boot without a word of ours, as the original does.
	bare bool
}

// commandFor is the command line of the program that was called by that name:
// launcher's, or that of the scripts that tvix and snix have in its place.
func commandFor(arg0 string) *cobra.Command {
	switch name := filepath.Base(arg0); name {
	case "run-tvix-vm":
		return newOriginalCommand(name, "tvix-store virtiofs")
	case "run-snix-vm":
		return newOriginalCommand(name, "snix-store --otlp=false virtiofs")
	}
	return newCommand()
}

// newOriginalCommand is the script of that name: it has no arguments, and all it
// takes is in the environment. It runs the original's own store daemon if that is
// in $PATH, as the script does, and else ours.
func newOriginalCommand(name, daemon string) *cobra.Command {
	var o originalOptions
	o.bare = true
	c := &cobra.Command{
		Use:   name,
		Short: "Run a VM with the store, as the environment says",
		Long: `Run a VM whose /nix/store is the store that BLOB_SERVICE_ADDR,
DIRECTORY_SERVICE_ADDR and PATH_INFO_SERVICE_ADDR say. The store daemon is
"` + daemon + `" where that is in $PATH, else storeboot's own.
  CH_CMDLINE    kernel parameters, such as tvix.find or init=/nix/store/...
  CH_NUM_CPUS   processors of the guest (default 2)
  CH_MEM_SIZE   memory of the guest (default 512M)
All of the kernel's console goes to the standard output.`,
		Args: cli.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.machine.addFlags(pflag.NewFlagSet("", pflag.ContinueOnError)) // their defaults
			if environ(cpusVariable, "") == "" {
				o.machine.cpus = 2
			}
			if program, _, _ := strings.Cut(daemon, " "); onPath(program) {
				o.machine.storeDaemon = daemon
			}
			return o.run(c)
		},
	}
	return c
}

func onPath(program string) bool {
	_, err := exec.LookPath(program)
	return err == nil
}

func (o *originalOptions) run(c *cobra.Command) error {
	line := environ(cmdlineVariable, "")
	if line == "" && !o.bare {
		if err := c.Help(); err != nil {
			return err
		}
		return cli.Usagef("a subcommand is needed, or %s", cmdlineVariable)
	}
	p, err := bootproto.ParseCommandLine(line)
	if err != nil {
		return cli.Usagef("%s: %w", cmdlineVariable, err)
	}
	j := newJob(&o.machine, c)
	j.template = "store"
	if p.Mode == bootproto.ModeShell {
		j.template = "shell"
		j.lineMode = true
	}
	j.commandLine = line
	j.useTerminal()
	return j.run(c.Context())
}
