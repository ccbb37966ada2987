package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/launcher/session"
)

// dryRun prints the commands that a session of config starts, for a shell, with
// what the launcher does for them as comments.
func dryRun(w io.Writer, config *session.Config) error {
	dir := session.Place(config.Base, "vm-0")
	files := config.Layout(dir)
	m := &files.Machine
	if err := config.Hypervisor.Check(m); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s is made for each VM anew, under another name\n", dir.Path)
	fmt.Fprintf(&b, "# descriptor 3: %s, listening; 4: events\n", m.Store.Socket)
	fmt.Fprintln(&b, session.DaemonCommand(config.Daemon, config.Fetched != nil))
	if config.BuildInitrd != nil {
		fmt.Fprintln(&b, config.BuildInitrd(files.Initrd))
	} else {
		fmt.Fprintf(&b, "# %s: a copy of %s\n", files.Initrd, config.Initrd)
	}
	if config.RunSpec != nil {
		data, err := json.Marshal(config.RunSpec)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "# appended to the initrd as %s: %s\n", bootproto.RunSpecPath, data)
	}
	command := config.Hypervisor.Command(m)
	fmt.Fprint(&b, "# descriptor 3: the monitor's events")
	if command.Stdin {
		fmt.Fprint(&b, "; 4: the program's input")
	}
	fmt.Fprintf(&b, "\n%v\n", command)
	_, err := io.WriteString(w, b.String())
	return err
}
