// Package boot is what PID 1 of a guest does, as an ordered list of named
// steps over a small [System] interface: the plan runs on a machine
// ([Machine]) and, with a System that records, in tests.
//
// The special file systems, with their options, are those that NixOS' stage 1
// makes (nixos/modules/tasks/filesystems.nix, stage-1-init.sh), so that a
// NixOS system started by init= finds what it expects.
//
// Invariants: nothing is done twice; every wait has a limit; all that can fail
// in starting another init comes before the first thing that cannot be undone;
// however a boot ends, a report is sent and the machine is powered off.
//
// The kernel command line and the files in the initramfs are trusted, and still
// parsed strictly, since a mistake in them has to be named. The store is
// read-only here; programs from it run as root and may do what they like with
// the guest.
package boot
