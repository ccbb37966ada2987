package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/control"
	"storeboot/virtiofsd/vhostuser"
)

type socketOptions struct {
	control string
	path    string
	name    string
	tag     string
	most    int
	json    bool
	view    viewFlags
}

func newSocketCommand() *cobra.Command {
	o := &socketOptions{}
	c := &cobra.Command{
		Use:   "socket",
		Short: "Make, list and remove the vhost-user sockets of a running daemon",
		Long: `socket tells a running 'virtiofsd daemon' to serve VMs: each socket that it makes
is one to which VMMs connect as to that of 'virtiofsd serve'. All share the
daemon's caches; each shows the store, or the closures that it is made for.`,
		Example: `  virtiofsd daemon &
  virtiofsd socket create --socket-path /run/vm1.sock --closure /nix/store/HASH-system
  virtiofsd socket list
  virtiofsd socket remove /run/vm1.sock`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return cli.Usagef("want one of create, list and remove") },
	}
	c.PersistentFlags().StringVar(&o.control, "control", defaultControl(), "the daemon's control socket, a `PATH`")
	create := &cobra.Command{
		Use:   "create --socket-path PATH",
		Short: "Make a socket and print its name",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.create(c.Context(), c.OutOrStdout()) },
	}
	f := create.Flags()
	f.StringVar(&o.path, "socket-path", "", "make the listening socket at this `PATH` (mode 0600, at most 107 bytes)")
	f.StringVar(&o.name, "name", "", "`NAME` of the socket in lists and metrics (none: a number)")
	f.StringVar(&o.tag, "tag", "tvix", "`TAG` that the VMM is to give the file system; a note for lists")
	f.IntVar(&o.most, "max-connections", 0, "let at most `N` VMMs connect at once; 0: any number")
	o.view.add(f)
	list := &cobra.Command{
		Use:   "list",
		Short: "List the sockets and what their guests do",
		Args:  cli.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.list(c.OutOrStdout()) },
	}
	remove := &cobra.Command{
		Use:   "remove NAME|PATH",
		Short: "Remove a socket and end the connections of its VMMs",
		Args:  cli.ExactArgs("NAME|PATH"),
		RunE:  func(_ *cobra.Command, args []string) error { return o.remove(args[0]) },
	}
	for _, sub := range []*cobra.Command{create, list} {
		sub.Flags().BoolVar(&o.json, "json", false, "print the result as JSON")
	}
	c.AddCommand(create, list, remove)
	return c
}

// ask sends one request to the daemon.
func (o *socketOptions) ask(r *control.Request, files ...*os.File) (*control.Answer, error) {
	if o.control == "" {
		return nil, cli.Usagef("which daemon? --control names its control socket")
	}
	c, err := control.Dial(o.control)
	if err != nil {
		return nil, fmt.Errorf("no daemon answers at %s (%w): start 'virtiofsd daemon', or name its control socket with --control", o.control, rootError(err))
	}
	defer c.Close()
	return control.Do(c, r, files...)
}

// rootError is the system's error within err, if there is one.
func rootError(err error) error {
	for next := err; next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return err
}

func (o *socketOptions) create(ctx context.Context, stdout io.Writer) error {
	if o.path == "" {
		return cli.Usagef("--socket-path is needed")
	}
	if _, err := o.view.view(); err != nil {
		return err
	}
	l, err := vhostuser.Listen(o.path)
	if err != nil {
		return err
	}
	defer l.Close() // with the socket, unless the daemon has taken it
	f, err := l.File()
	if err != nil {
		return err
	}
	defer f.Close()
	s := &control.Socket{
		Name: o.name, Path: o.path, Tag: o.tag, MaxConnections: o.most,
		Closure: o.view.closure, Xattr: o.view.xattr, RootTTL: o.view.rootTTL,
	}
	a, err := o.ask(&control.Request{Op: control.OpCreate, Socket: s}, f)
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if o.json {
		return printSockets(stdout, a.Sockets)
	}
	for _, s := range a.Sockets {
		if _, err := fmt.Fprintln(stdout, s.Name); err != nil {
			return err
		}
	}
	return nil
}

func printSockets(w io.Writer, list []control.Socket) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(list)
}

func (o *socketOptions) list(stdout io.Writer) error {
	a, err := o.ask(&control.Request{Op: control.OpList})
	if err != nil {
		return err
	}
	if o.json {
		if a.Sockets == nil {
			a.Sockets = []control.Socket{}
		}
		return printSockets(stdout, a.Sockets)
	}
	w := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tPATH\tTAG\tVMS\tREQUESTS\tREAD\tAGE\tCLOSURE")
	for _, s := range a.Sockets {
		shows := "(whole store)"
		if len(s.Closure) > 0 {
			shows = strings.Join(s.Closure, " ")
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%v\t%s\n", s.Name, s.Path, s.Tag, s.Connections, s.Requests, s.ReadBytes, time.Since(s.Created).Round(time.Second), shows)
	}
	return w.Flush()
}

func (o *socketOptions) remove(name string) error {
	a, err := o.ask(&control.Request{Op: control.OpRemove, Socket: &control.Socket{Name: name}})
	if err != nil {
		return err
	}
	for _, s := range a.Sockets {
		if s.Path == "" {
			continue
		}
		// A daemon that has shut itself in cannot.
		if err := os.Remove(s.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove socket: %w", err)
		}
	}
	return nil
}
