// Package rundir keeps the state of running VMs: one directory for each below
// $XDG_RUNTIME_DIR/storeboot, with its sockets, consoles and a file that says
// what it is ([State]).
//
// Whoever runs a VM holds a lock on its directory. The kernel frees the lock
// when that process dies, however it does: a directory without one is removed by
// the next launcher, unless its VM ended in order and was kept for its status.
package rundir
