// Package image turns a template into the entries of an initramfs, writes them
// as a file that the kernel unpacks, and reads such files again.
//
// An [Image] is a list of segments, a segment a list of entries in the order of
// their names; so a directory stands before what is in it, as the kernel needs
// it. Every directory on the way to an entry is there.
//
// The order of segments: the processor's microcode and early archives, never
// compressed, as the kernel looks for them; the template's other archives, as
// they are; and all else, cut by size where the builder asks for that.
//
// Every entry has a [Reason]: the line of the template that asks for it, or the
// entry that needs it.
//
// Invariants: the same template, programs, kernel and modules give the same
// bytes, whoever builds, where and when: entries belong to root unless the
// template says otherwise, have the builder's one time, count their inodes from 1, and have modes of this package's or the
// template's choice, not those of the builder's umask. Two things at one place
// are an error, as is a boot specification that init would refuse.
//
// What is in every image: /init; /etc/storeboot/boot.json; the directories that
// init mounts on; /dev/console and /dev/null, which are needed before /dev is
// mounted; /etc/passwd and /etc/group with root alone.
//
// Who is trusted: the template's writer and the machine that builds. Files that
// are read ([Walk]) are not: memory does not grow with what they say, and what
// they unpack to is limited.
package image
