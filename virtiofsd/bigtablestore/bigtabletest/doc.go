// Package bigtabletest runs Google's Bigtable emulator for tests, in a process of
// its own that can be killed and started again without losing anything.
//
// The emulator (package bttest of cloud.google.com/go/bigtable, the same that
// cbtemulator is made of) keeps its rows in memory and has no way to save them.
// Here every request that changes something is written to a file before it is
// carried out, and the requests in the file are made again when the process
// starts.
package bigtabletest
