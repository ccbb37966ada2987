package rundir

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// stateName is the file of a [State].
const stateName = "vm.json"

// State says what a VM is. It is written by the VM's launcher alone.
type State struct {
	VM       string    `json:"name"`
	PID      int       `json:"pid"`     // of the launcher
	Command  []string  `json:"command"` // its arguments
	Started  time.Time `json:"started"`
	Detached bool      `json:"detached"`
	// VMM, Accel, Kernel, CPUs and Memory describe the machine.
	VMM    string `json:"vmm"`
	Accel  string `json:"accel"`
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"`
	Memory string `json:"memory"`
	// Ports are those of the host that reach the guest, as --publish has them.
	Ports []string `json:"ports,omitempty"`
	// VMMPID is the monitor's process, 0 before it has started.
	VMMPID int `json:"vmm_pid,omitempty"`
	// Ended is when the VM ended, nil while it runs; Status is then the exit
	// status, with Message if there was more to say.
	Ended   *time.Time `json:"ended,omitempty"`
	Status  int        `json:"status"`
	Message string     `json:"message,omitempty"`
}

// Write replaces the state of d's VM.
func (d Dir) Write(s *State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write VM state: %w", err)
	}
	tmp := d.File(stateName + ".new")
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return fmt.Errorf("write VM state: %w", err)
	}
	return os.Rename(tmp, d.File(stateName))
}

// StateFile is the name of the file that Write writes, for End.
const StateFile = stateName

// ReadState reads the state of the VM with that directory.
func ReadState(path string) (*State, error) {
	data, err := os.ReadFile(filepath.Join(path, stateName))
	if err != nil {
		return nil, err
	}
	s := new(State)
	if err := json.Unmarshal(data, s); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(path, stateName), err)
	}
	return s, nil
}

// Entry is one VM.
type Entry struct {
	Dir
	State
}

// List returns all VMs below base, the oldest first, and the names of those
// whose launcher has died, which are removed.
func List(base string) (list []Entry, died []string, err error) {
	if _, err := os.Stat(base); errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	lock, err := lockBase(base)
	if err != nil {
		return nil, nil, fmt.Errorf("list VMs: %w", err)
	}
	defer lock.Close()
	died = sweep(base)
	entries, err := os.ReadDir(base)
	if err != nil {
		return nil, nil, fmt.Errorf("list VMs: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || !strings.HasPrefix(e.Name(), dirPrefix) {
			continue
		}
		d := Place(base, strings.TrimPrefix(e.Name(), dirPrefix))
		s, err := ReadState(d.Path)
		if err != nil {
			continue // it is about to begin, or to end
		}
		list = append(list, Entry{d, *s})
	}
	slices.SortStableFunc(list, func(a, b Entry) int { return a.Started.Compare(b.Started) })
	return list, died, nil
}

// Find returns the VM of that name below base; the beginning of a name is enough
// if it is no other's.
func Find(base, name string) (Entry, error) {
	list, died, err := List(base)
	if err != nil {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range list {
		if e.Name() == name {
			return e, nil
		}
		if name != "" && strings.HasPrefix(e.Name(), name) {
			found = append(found, e)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	if len(found) > 1 {
		return Entry{}, fmt.Errorf("%d VMs have names that begin with %s (launcher ps lists all)", len(found), name)
	}
	for _, d := range died {
		if d == name {
			return Entry{}, fmt.Errorf("the launcher of VM %s was killed, and the VM with it", name)
		}
	}
	return Entry{}, fmt.Errorf("there is no VM %s (launcher ps lists all)", name)
}

// RemoveEnded removes what is left of a VM that has ended.
func RemoveEnded(e Entry) error {
	f, err := tryLock(e.Path)
	if err != nil {
		return fmt.Errorf("VM %s has not ended: stop it (launcher stop %s)", e.Name(), e.Name())
	}
	defer f.Close()
	return os.RemoveAll(e.Path)
}
