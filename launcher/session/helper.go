package session

import (
	"context"
	"fmt"
	"os"
	"time"

	"storeboot/launcher/vmm"
)

// Helper is a process that the monitor needs.
type Helper struct {
	Name string // for messages
	// Socket is the name of the socket in the VM's directory that it makes.
	Socket string
	// Command is the process, given the path of its socket.
	Command func(socket string) vmm.Command
}

// watchHelpers tells of helpers that end.
func (r *runner) watchHelpers() {
	for _, p := range r.helpers {
		go func() {
			<-p.done
			select {
			case r.helperEnded <- p:
			default:
			}
		}()
	}
}

// socketPoll is the pause between two looks for a helper's socket: it offers no
// other sign.
const socketPoll = 2 * time.Millisecond

// startHelpers starts all helpers and waits for their sockets.
func (r *runner) startHelpers(ctx context.Context) error {
	for _, h := range r.Helpers {
		p, err := r.spawner.start(h.Name, h.Command(r.dir.File(h.Socket)), nil, r.ErrOut)
		if err != nil {
			return err
		}
		r.helpers = append(r.helpers, p)
	}
	defer r.watchHelpers()
	limit := time.After(readyLimit)
	for i, h := range r.Helpers {
		for {
			if st, err := os.Stat(r.dir.File(h.Socket)); err == nil && st.Mode()&os.ModeSocket != 0 {
				break
			}
			select {
			case <-r.helpers[i].done:
				return r.helpers[i].failure()
			case <-ctx.Done():
				return errCanceled
			case <-limit:
				return fmt.Errorf("%s has not made its socket after %v", h.Name, readyLimit)
			case <-time.After(socketPoll):
			}
		}
	}
	return nil
}
