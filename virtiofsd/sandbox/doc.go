// Package sandbox takes from this process what a store daemon does not need, for
// good: files outside its store (Landlock), system calls that serve no purpose
// here (seccomp), capabilities, and ways to gain new privileges. Its guests are
// not trusted; a mistake of ours that one of them finds gives it no more than the
// store.
//
// It holds for all threads of the process, and cannot be undone.
package sandbox
