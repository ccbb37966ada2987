// Package kmod finds kernel modules in a directory that depmod has prepared,
// /lib/modules/RELEASE, and the order to load them in.
//
// It reads depmod's text files (modules.dep(5), modprobe.d(5) for the syntax
// of the other two) and the kernel's own list:
//
//	modules.dep      PATH: PATH...                 what has to be loaded before
//	modules.softdep  softdep NAME pre: N... post: N...   what should be, if there
//	modules.alias    alias PATTERN NAME            other names of a module
//	modules.builtin  PATH                          what needs no loading
//
// What a module says of itself (.modinfo: firmware, version) is read from its
// file by [ReadInfo].
//
// A module's name is its file's without the extensions, with "_" for "-", since
// the kernel takes the two for one.
//
// An [Index] is read once and not changed; it is safe for concurrent use. The
// directory is trusted as far as the kernel in it is: a path that leads out of
// it is an error all the same, and file sizes are limited.
package kmod
