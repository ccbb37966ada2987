package session

import (
	"os"
	"time"

	"storeboot/internal/bootproto"
	"storeboot/launcher/rundir"
	"storeboot/launcher/vmm"
)

// ForeignCommand is a store daemon of another make that serves at the socket.
func ForeignCommand(c vmm.Command, socket string) vmm.Command {
	return vmm.Command{Path: c.Path, Args: append(c.Args[:len(c.Args):len(c.Args)], "-l", socket)}
}

// startForeign starts a store daemon of another make. It tells nothing: it is
// ready when its socket is there, and its orderly end is the VM's going.
func (s *spawner) startForeign(c *Config, dir rundir.Dir, now func(bootproto.EventKind)) (*daemon, error) {
	command := ForeignCommand(*c.Foreign, dir.Socket())
	p, err := s.start("store daemon", command, nil, c.ErrOut)
	if err != nil {
		return nil, err
	}
	d := &daemon{
		process: p, now: now, seen: map[bootproto.EventKind]bool{},
		ready: make(chan struct{}), report: make(chan struct{}, 1), drain: make(chan struct{}),
	}
	go func() {
		defer close(d.drain)
		for !p.ended() {
			if st, err := os.Stat(dir.Socket()); err == nil && st.Mode()&os.ModeSocket != 0 {
				d.take(&bootproto.Event{Kind: bootproto.EventReady})
				break
			}
			time.Sleep(socketPoll)
		}
		<-p.done
		if p.err == nil {
			d.take(&bootproto.Event{Kind: bootproto.EventDisconnected})
		}
	}()
	return d, nil
}
