package main

import (
	"github.com/spf13/cobra"

	"storeboot/internal/cli"
)

// The names under which virtiofsd takes the command line of nar-bridge
// (spec/store.md 3.4).
const (
	narBridge     = "nar-bridge"
	narBridgeHTTP = "nar-bridge-http"
)

type dropInNarBridgeOptions struct {
	bridge   narBridgeOptions // without listen
	listen   listenOptions
	capacity int
}

// newDropInNarBridgeCommand is the command line of nar-bridge.
func newDropInNarBridgeCommand(name string) *cobra.Command {
	o := &dropInNarBridgeOptions{}
	g := &dropInGlobals{}
	c := &cobra.Command{
		Use:   name,
		Short: "Serve the store as a Nix binary cache over HTTP (virtiofsd, called as " + name + ")",
		Long: `This is virtiofsd of storeboot with the command line of ` + name + `, for scripts that
call it. 'virtiofsd nar-bridge' has more flags.

Unlike the original it listens on the loopback addresses alone unless
--listen-address says otherwise, as whoever can connect may read and write the
store. Like the original it takes store paths whose references are not in the
store yet.`,
		Args: cli.NoArgs,
		PreRunE: func(c *cobra.Command, _ []string) error {
			return fromEnv(c, map[string]string{"priority": "PRIORITY", "root-nodes-cache-capacity": "ROOT_NODES_CACHE_CAPACITY"})
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if o.capacity < 1 {
				return cli.Usagef("--root-nodes-cache-capacity %d: want at least 1", o.capacity)
			}
			o.bridge.bridge.uploadsAtMost = max(o.bridge.bridge.uploadsAtMost, o.capacity)
			var err error
			if o.bridge.logLevel, err = g.level(); err != nil {
				return err
			}
			o.bridge.logJSON = g.json
			log, options, err := o.bridge.options(c.ErrOrStderr())
			if err != nil {
				return err
			}
			o.listen.in, o.listen.out = c.InOrStdin(), c.OutOrStdout()
			listeners, err := o.listen.listen(c.Context())
			if err != nil {
				return err
			}
			return o.bridge.serve(c.Context(), log, options, listeners)
		},
	}
	f := c.Flags()
	defaults := newNarBridgeCommand().Flags() // for the flags that are not there
	o.bridge.grace, _ = defaults.GetDuration("grace")
	o.bridge.bridge = defaultBridgeOptions()
	o.bridge.bridge.requireRefs = false
	o.bridge.addresses.AddServiceFlags(f, clientAddresses())
	f.IntVar(&o.bridge.bridge.priority, "priority", o.bridge.bridge.priority, "tell clients this priority `N` (environment: PRIORITY)")
	f.IntVar(&o.capacity, "root-nodes-cache-capacity", 1000, "remember at least this `NUMBER` of uploaded NARs until their narinfo comes; they are on the disk (environment: ROOT_NODES_CACHE_CAPACITY)")
	g.addFlags(f)
	o.listen.addFlags(f)
	listen := f.Lookup("listen-address")
	listen.DefValue = ":9000"
	o.listen.address = listen.DefValue
	return c
}
