// Package gobuild builds the Go programs of an image: our own from this
// module's source, u-root's commands as one program through gobusybox. It keeps
// what it built, so that a second image costs no compiler run.
//
// gobusybox rewrites the sources of many commands into the packages of one
// program, which takes seconds; it can also compile the result, but always
// rebuilds everything. So it generates only, and the go command compiles.
//
// Invariants: the same sources, toolchain and architecture give the same bytes,
// wherever the sources are: no paths, build ids or revisions are recorded.
// A cached program is named by a hash of all that shapes it: the toolchain's
// version, go.mod and go.sum, the module's own sources, the flags. It appears
// by a rename, whole or not at all. A lock keeps two builds from doing the same
// work. What has not been used for 30 days is removed when something is added.
//
// Who is trusted: the module's source and the Go toolchain, since their output
// becomes the image's PID 1; and the user's cache directory, which only the
// user can write.
package gobuild
