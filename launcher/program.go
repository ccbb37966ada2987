package main

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/internal/storepath"
)

type runOptions struct {
	machine machineOptions
	env     []string
	dir     string
	user    string
	limit   time.Duration
	tty     string
}

func newRunCommand() *cobra.Command {
	var o runOptions
	c := &cobra.Command{
		Use:   "run [flags] STOREPATH/bin/PROGRAM [ARGUMENTS...]",
		Short: "Run a program of the store in a VM",
		Long: `run boots a VM, runs the program in it, and exits with the program's status.

The program's output is the launcher's, byte for byte, and so is its standard
error where the monitor is QEMU; the kernel's messages are apart from both
(--console-log), and shown when something fails. On a terminal the program has a
terminal, and all keys go to it, Ctrl-C too; Ctrl-] three times within a second
ends the VM. Without one, SIGINT and SIGTERM are passed on to the program; the
second of them ends the VM, and so do 10 seconds after SIGTERM.

Flags stand before the program: everything behind it belongs to the program.`,
		Example: `  launcher run /nix/store/HASH-hello-2.12/bin/hello --greeting=hi
  launcher run --cpus 2 --memory 2G --env LANG=C --timeout 10m /nix/store/HASH-tests/bin/check`,
		Args: cli.MinArgs("STOREPATH/bin/PROGRAM"),
		RunE: func(c *cobra.Command, args []string) error { return o.run(c, args) },
	}
	c.Flags().StringArrayVar(&o.env, "env", nil, "environment variable `KEY=VALUE` of the program, repeatable")
	c.Flags().StringVar(&o.dir, "dir", "", "working `DIRECTORY` of the program in the guest (default /)")
	c.Flags().StringVar(&o.user, "user", "", "run the program as `UID[:GID[,GROUP...]]`, in numbers (default 0:0)")
	c.Flags().DurationVar(&o.limit, "limit", 0, "end the program after this `TIME`, with exit status 124; the VM ends in order")
	c.Flags().StringVarP(&o.tty, "tty", "t", ttyAuto, "give the program a terminal: `yes` (-t alone), no, or auto: if there is one here")
	c.Flags().Lookup("tty").NoOptDefVal = ttyYes
	o.machine.addFlags(c.Flags())
	c.Flags().SetInterspersed(false)
	return c
}

func (o *runOptions) run(c *cobra.Command, args []string) error {
	prog, store, err := programPath(args[0])
	if err != nil {
		return err
	}
	j := newJob(&o.machine, c)
	j.template = "store"
	j.parameters = []parameter{{"storeboot.run", ""}}
	j.require = []string{store}
	j.program = true
	j.spec = &bootproto.RunSpec{
		Version: bootproto.SpecVersion,
		Argv:    append([]string{prog}, args[1:]...),
		Env:     o.env,
		Dir:     o.dir,
	}
	if o.limit < 0 || o.limit > 0 && o.limit < time.Millisecond {
		return cli.Usagef("--limit %v: want a time of a millisecond or more", o.limit)
	}
	j.spec.LimitMillis = o.limit.Milliseconds()
	if o.user != "" {
		if j.spec.User, err = parseUser(o.user); err != nil {
			return cli.Usagef("--user %s: %w", o.user, err)
		}
	}
	j.tty = o.tty
	if o.tty != ttyAuto && o.tty != ttyYes && o.tty != ttyNo {
		return cli.Usagef("--tty %s: there are yes, no and auto", o.tty)
	}
	j.useTerminal()
	if err := j.spec.Check(); err != nil {
		return setUsage(err)
	}
	return j.run(c.Context())
}

// parseUser reads UID[:GID[,GROUP...]]; without a group it is the number of the
// user.
func parseUser(s string) (*bootproto.User, error) {
	uid, groups, hasGroups := strings.Cut(s, ":")
	if !hasGroups {
		groups = uid
	}
	var numbers []uint32
	for _, text := range append([]string{uid}, strings.Split(groups, ",")...) {
		// The highest number means no user to the kernel.
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 1<<32-1 {
			return nil, fmt.Errorf("%q is no number of a user or group", text)
		}
		numbers = append(numbers, uint32(n))
	}
	return &bootproto.User{UID: numbers[0], GID: numbers[1], Groups: numbers[2:]}, nil
}

// programPath checks that arg names a file in a store path, and returns it in
// its shortest form, with the store path.
func programPath(arg string) (prog, store string, err error) {
	prog = path.Clean(arg)
	p, rest, err := storepath.ParseAbsolute(prog)
	switch {
	case err != nil:
		return "", "", setUsage(err)
	case rest == "":
		// A store path may itself be a program, but then it has no slash.
		if strings.HasSuffix(arg, "/") {
			return "", "", cli.Usagef("%s names no program in the store path (%s/bin/PROGRAM)", arg, prog)
		}
	}
	return prog, p.Absolute(), nil
}
