// Package kbuild builds a Linux kernel from source for a set of fragments, out
// of tree and reproducibly, and keeps what it built by content:
//
//	source, fragments, compiler -> key -> cache/KEY/{bzImage, vmlinux, config-RELEASE, manifest.json}
//
// The configuration begins with everything off (make allnoconfig), gets the
// fragments' options, and is then compared with them: an option that Kconfig
// dropped is an error that names what it depends on. Nothing of the machine goes
// into the kernel: no time, user, host name or directory
// (Documentation/kbuild/reproducible-builds.rst).
//
// The source is trusted: its makefiles are programs that run. A [Lock] pins it.
package kbuild
