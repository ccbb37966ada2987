package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/storeaddr"
)

// The names under which virtiofsd takes the command lines of the programs that
// had them first (spec/store.md 3.1).
const (
	tvixStore = "tvix-store"
	snixStore = "snix-store"
)

// commandOf is the command line for the name under which the program was called.
func commandOf(argv0 string) *cobra.Command {
	switch name := filepath.Base(argv0); name {
	case tvixStore, snixStore:
		return newDropInCommand(name)
	}
	return newCommand()
}

// newDropInCommand is the command line of tvix-store or snix-store.
func newDropInCommand(name string) *cobra.Command {
	c := &cobra.Command{
		Use:   name,
		Short: "Store closures by content and serve them (virtiofsd, called as " + name + ")",
		Long: `This is virtiofsd of storeboot with the command line of ` + name + `, for scripts that
call it. Called as virtiofsd it has more commands.

RUST_LOG sets the least level that is logged if it is error, warn, info, debug or
trace. No traces are sent anywhere.`,
	}
	var otlp bool
	c.PersistentFlags().BoolVar(&otlp, "otlp", true, "taken and without effect: no traces are sent")
	c.AddCommand(
		newDropInDaemonCommand(name),
		newDropInImportCommand(),
		newDropInCopyCommand(),
		newDropInMountCommand(),
		newDropInVirtiofsCommand(),
	)
	return c
}

// dropInServer is where the daemon listens by default, and where the other
// subcommands look for it.
const dropInServer = "grpc+http://[::1]:8000"

// clientAddresses are the addresses that all subcommands but daemon have by
// default.
func clientAddresses() storeaddr.Addresses {
	return storeaddr.Addresses{Blobs: dropInServer, Directories: dropInServer, PathInfos: dropInServer}
}

// dropInLogLevel is the level that RUST_LOG sets. Filters for single modules are
// not understood and passed over, as there are no such modules.
func dropInLogLevel() string {
	switch level := strings.ToLower(os.Getenv("RUST_LOG")); level {
	case "error", "warn", "debug":
		return level
	case "trace":
		return "debug"
	}
	return "info"
}

func newDropInImportCommand() *cobra.Command {
	o := &importOptions{}
	c := &cobra.Command{
		Use:   "import PATH...",
		Short: "Store files and directories and print their store paths",
		Args:  cli.MinArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	o.addresses.AddServiceFlags(c.Flags(), clientAddresses())
	return c
}

// viewFlags are the flags of mount and virtiofs that change nothing here.
type viewFlags struct{ listRoot, showXattr bool }

func (v *viewFlags) add(c *cobra.Command) {
	c.Flags().BoolVarP(&v.listRoot, "list-root", "l", false, "list the store paths in the root directory (they always are)")
	c.Flags().BoolVar(&v.showXattr, "show-xattr", true, "taken and without effect: there are no extended attributes")
}

func newDropInMountCommand() *cobra.Command {
	o := &mountOptions{logLevel: dropInLogLevel()}
	var view viewFlags
	var threads int
	c := &cobra.Command{
		Use:   "mount PATH",
		Short: "Mount the store on this machine",
		Args:  cli.ExactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if threads < 1 {
				return cli.Usagef("--threads %d: want at least 1", threads)
			}
			return o.run(c.Context(), args[0], c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddServiceFlags(f, clientAddresses())
	view.add(c)
	f.IntVar(&threads, "threads", runtime.NumCPU(), "taken and without effect: there are as many threads `N` as are of use (environment: THREADS)")
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users see it (environment: ALLOW_OTHER)")
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		return fromEnv(c, map[string]string{"threads": "THREADS", "allow-other": "ALLOW_OTHER"})
	}
	return c
}

// fromEnv sets the flags that are not given to the values of variables.
func fromEnv(c *cobra.Command, variables map[string]string) error {
	for flag, variable := range variables {
		value := os.Getenv(variable)
		if value == "" || c.Flags().Changed(flag) {
			continue
		}
		if err := c.Flags().Set(flag, value); err != nil {
			return cli.Usagef("the variable %s=%s is of no use as --%s", variable, strconv.Quote(value), flag)
		}
	}
	return nil
}

func newDropInVirtiofsCommand() *cobra.Command {
	o := &serveOptions{fd: -1, eventFD: -1, once: true, logLevel: dropInLogLevel()}
	var view viewFlags
	c := &cobra.Command{
		Use:   "virtiofs SOCKET",
		Short: "Serve the store to one VM over vhost-user virtio-fs",
		Long: `virtiofs makes a vhost-user socket at SOCKET, serves the store to the guest of the
VMM that connects, and ends when that has gone.`,
		Args: cli.ExactArgs("SOCKET"),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "" {
				return cli.Usagef("SOCKET is empty")
			}
			o.socketPath = args[0]
			if err := serve(c.Context(), o, c.OutOrStdout(), c.ErrOrStderr()); err != nil {
				return fmt.Errorf("virtiofs: %w", err)
			}
			return nil
		},
	}
	o.addresses.AddServiceFlags(c.Flags(), clientAddresses())
	view.add(c)
	return c
}
