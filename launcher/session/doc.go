// Package session runs one virtual machine with its store, from the first
// process to the last trace.
//
// [Run] makes a directory, starts the store daemon on a socket that already
// listens, builds the initrd meanwhile, starts the monitor, passes input and
// output, and gathers how the guest ended. [Result.Status] turns that into an
// exit status and a message.
//
// However it ends, nothing is left: every child is in a process group of its
// own, is killed with the launcher by the kernel (PR_SET_PDEATHSIG), and all
// files are in one directory. A launcher that is killed outright leaves that
// directory to the next one, which sees by its lock that nobody owns it.
//
// The guest is not trusted: lines of its console and its reports are bounded
// and stripped of control characters before they are shown. Output that nobody
// takes does not fill the disk: the monitor is stopped until somebody does.
package session
