// Package kernelimage reads what a Linux kernel image says of itself: its
// format, its release, which names its modules, the ELF file that it unpacks
// when it starts, and the configuration that it may carry.
//
// Formats: the x86 bzImage (Documentation/arch/x86/boot.rst: "HdrS" at 0x202,
// protocol 2.00 or later, kernel_version at 0x20e counts from 0x200), ELF
// (vmlinux), and the flat Image of arm64 and riscv64 (magic at 0x38). The last
// two name their release in the banner "Linux version RELEASE (" only.
package kernelimage
