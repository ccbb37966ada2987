package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"storeboot/internal/bootproto"
	"storeboot/launcher/rundir"
	"storeboot/launcher/session"
	"storeboot/launcher/vmm"
)

// dryRun prints the commands that a session of config starts, for a shell, with
// what the launcher does for them as comments.
func dryRun(w io.Writer, config *session.Config) error {
	dir := rundir.Place(config.Base, nameOr0(config.Name))
	files := config.Layout(dir)
	m := &files.Machine
	if err := config.Hypervisor.Check(m); err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s is made for each VM anew, under another name\n", dir.Path)
	if config.Foreign != nil {
		fmt.Fprintln(&b, session.ForeignCommand(*config.Foreign, m.Store.Socket))
	} else {
		fmt.Fprintf(&b, "# descriptor 3: %s, listening; 4: events\n", m.Store.Socket)
		fmt.Fprintln(&b, session.DaemonCommand(config.Daemon, config.Fetched != nil))
	}
	for _, h := range config.Helpers {
		fmt.Fprintln(&b, h.Command(dir.File(h.Socket)))
	}
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
	for i, s := range command.Sockets {
		fmt.Fprintf(&b, "# descriptor %d: a socket of the launcher's: %s\n", 3+i, s)
	}
	fmt.Fprintf(&b, "%v\n", command)
	_, err := io.WriteString(w, b.String())
	return err
}

// nameOr0 is a name to show where none was given.
func nameOr0(name string) string {
	if name == "" {
		return "0"
	}
	return name
}

// printConfig prints the machine of a session as JSON, with the reason for its
// monitor.
func printConfig(w io.Writer, config *session.Config, why string) error {
	files := config.Layout(rundir.Place(config.Base, nameOr0(config.Name)))
	if err := config.Hypervisor.Check(&files.Machine); err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(struct {
		VMM     string             `json:"vmm"`
		Why     string             `json:"why"`
		Machine vmm.Machine        `json:"machine"`
		Run     *bootproto.RunSpec `json:"run,omitempty"`
		Command []string           `json:"command"`
	}{config.Hypervisor.Name(), why, files.Machine, config.RunSpec, config.Hypervisor.Command(&files.Machine).Words()})
}
