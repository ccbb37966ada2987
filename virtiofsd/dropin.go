package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storefs"
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
	case narBridge, narBridgeHTTP:
		return newDropInNarBridgeCommand(name)
	}
	c := newCommand()
	deployed(c)
	return c
}

// deployed sets the defaults that a program has, and a command line that a test
// runs within its own process must not have.
func deployed(root *cobra.Command) {
	for _, x := range []struct{ command, flag, value string }{
		{"serve", "sandbox", "auto"},
		{"daemon", "control", "auto"},
	} {
		c, _, err := root.Find([]string{x.command})
		if err != nil {
			continue
		}
		if f := c.Flags().Lookup(x.flag); f != nil {
			_ = f.Value.Set(x.value)
			f.DefValue = x.value
		}
	}
}

// newDropInCommand is the command line of tvix-store or snix-store.
func newDropInCommand(name string) *cobra.Command {
	c := &cobra.Command{
		Use:   name,
		Short: "Store closures by content and serve them (virtiofsd, called as " + name + ")",
		Long: `This is virtiofsd of storeboot with the command line of ` + name + `, for scripts that
call it. Called as virtiofsd it has more commands.

RUST_LOG sets the least level that is logged, unless --log-level does: off, error,
warn, info, debug or trace (which is debug). Filters for single modules, as
MODULE=LEVEL, have no effect: there are no such modules.`,
	}
	g := &dropInGlobals{}
	g.addFlags(c.PersistentFlags())
	c.AddCommand(
		newDropInDaemonCommand(name, g),
		newDropInImportCommand(),
		newDropInCopyCommand(),
		newDropInMountCommand(name, g),
		newDropInVirtiofsCommand(name, g),
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

// dropInView are the flags of mount and virtiofs that say how the store is shown.
type dropInView struct{ listRoot, showXattr bool }

func (v *dropInView) add(c *cobra.Command) {
	c.Flags().BoolVarP(&v.listRoot, "list-root", "l", false, "list the store paths in the root directory (without: EPERM)")
	c.Flags().BoolVar(&v.showXattr, "show-xattr", true, "show the digests of files and directories as extended attributes; =false saves requests")
}

// view is what the flags say, under the names that the program of that name has.
func (v *dropInView) view(name string) *storefs.View {
	view := &storefs.View{HideRoot: !v.listRoot}
	switch {
	case !v.showXattr:
	case name == tvixStore:
		view.DigestPrefix = "user.tvix.castore"
		view.Digest = func(d castore.Digest) string { return "b3:" + base64.StdEncoding.EncodeToString(d[:]) }
	default:
		view.DigestPrefix = "user.snix.castore"
	}
	return view
}

func newDropInMountCommand(name string, g *dropInGlobals) *cobra.Command {
	o := &mountOptions{}
	var view dropInView
	var threads int
	c := &cobra.Command{
		Use:   "mount PATH",
		Short: "Mount the store on this machine",
		Args:  cli.ExactArgs("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			if threads < 1 {
				return cli.Usagef("--threads %d: want at least 1", threads)
			}
			var err error
			if o.logLevel, err = g.level(); err != nil {
				return err
			}
			o.logJSON, o.view = g.json, view.view(name)
			return o.run(c.Context(), args[0], c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddServiceFlags(f, clientAddresses())
	view.add(c)
	f.IntVar(&threads, "threads", runtime.NumCPU(), "taken and without effect: every request is answered at once, whatever `N` says (environment: THREADS)")
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

func newDropInVirtiofsCommand(name string, g *dropInGlobals) *cobra.Command {
	o := &serveOptions{fd: -1, eventFD: -1, progressFD: -1, once: true, useDaemon: "no"}
	var view dropInView
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
			var err error
			if o.logLevel, err = g.level(); err != nil {
				return err
			}
			o.logJSON, o.view = g.json, view.view(name)
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
