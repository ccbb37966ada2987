package storefs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
)

// state is what a snapshot of a VM, or its migration, takes along of us: nothing
// but what the numbers that its guest knows rely on.
type state struct {
	// Numbers is the version of how inode numbers are made.
	Numbers int `json:"numbers"`
	// Closure is the digest of the store paths that the guest may see, "" for all.
	Closure string `json:"closure,omitempty"`
}

const numbersVersion = 1

func (s *shown) state() state {
	n := state{Numbers: numbersVersion}
	if s.closure != nil {
		h := sha256.New()
		for _, t := range s.root.trees {
			fmt.Fprintf(h, "%s %x\n", t.path, t.id)
		}
		n.Closure = hex.EncodeToString(h.Sum(nil))
	}
	return n
}

func (s *Session) saveState() ([]byte, error) { return json.Marshal(s.mount.fs.shown.state()) }

func (s *Session) loadState(b []byte) error {
	var theirs state
	if err := json.Unmarshal(b, &theirs); err != nil {
		return fmt.Errorf("device state: %w", err)
	}
	ours := s.mount.fs.shown.state()
	switch {
	case theirs.Numbers != ours.Numbers:
		return fmt.Errorf("device state: it is of version %d, ours of %d", theirs.Numbers, ours.Numbers)
	case theirs.Closure != ours.Closure:
		return errors.New("device state: the guest that was saved saw another closure: serve the same store paths with --closure")
	}
	return nil
}
