// Package staging has the steps by which a store of files stays whole whatever
// happens: contents are written to files of a staging directory, then to the
// disk, and only then get their names.
//
// # Processes
//
// Any number of processes may write to one store at once. Each has a directory
// of its own below [Name] in the store and holds a flock on it ([Dir]); one that
// nobody holds belongs to a dead process and is removed by the next process
// that writes. The directory [Name] itself is locked while directories are made
// and removed in it.
//
// # Limits and trust
//
// The store must be on one local file system with flock, rename and, for errors
// of syncfs to be seen, Linux 5.8 or later. Whoever may write to the store is
// trusted.
package staging
