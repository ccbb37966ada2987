// Package extract writes the entries of an initrd to a directory of this
// machine, and never outside it.
//
// Names and symbolic links in an image may say anything. Every path is resolved
// by openat2(2) with RESOLVE_IN_ROOT: the directory is the root, which ".." and
// absolute links do not leave, as it will be in the guest. Files are made new;
// what is in their place is removed, and never followed or written through.
//
// Owners, set-user-ID bits and device nodes need root's rights: others get the
// files as their own, and are told which nodes are left out.
package extract
