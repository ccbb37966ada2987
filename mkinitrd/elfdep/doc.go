// Package elfdep finds the files that a program needs to run, as its loader
// would: the loader itself (PT_INTERP), shared libraries (DT_NEEDED, through
// all of them), what it says it will open later (.note.dlopen), and the
// interpreter of a script ("#!").
//
// Nothing of the target is executed, so programs of any architecture and of
// another root directory will do. The search is that of ld.so(8) of glibc, and
// of musl where the interpreter is musl's:
//
//	a name with a slash    that path
//	DT_RPATH               of the object and of those that loaded it, unless
//	                       the object has a DT_RUNPATH
//	DT_RUNPATH             of the object alone
//	/etc/ld.so.cache       or, without one, the directories of /etc/ld.so.conf
//	the loader's own       /lib, /usr/lib, with 64 and with Debian's multiarch
//	                       names; /etc/ld-musl-ARCH.path for musl
//
// with $ORIGIN, $LIB and $PLATFORM in the paths. A file for another machine is
// passed over, as by the loader. LD_LIBRARY_PATH and glibc-hwcaps are not
// looked at: they belong to this machine.
//
// Notes: https://systemd.io/ELF_DLOPEN_METADATA; the cache's layout is that of
// glibc, sysdeps/generic/dl-cache.h ("glibc-ld.so.cache1.1").
//
// Invariants: the result is in an order that only the files determine, and each
// path is in it once. A second path to the same file becomes a symbolic link.
//
// Who is trusted: nobody. Files are read by debug/elf; strings, notes, the
// number of files and the depth of links are limited.
package elfdep
