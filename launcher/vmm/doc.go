// Package vmm describes a virtual machine and turns the description into the
// command line of a virtual machine monitor, with one file for each monitor.
//
// A [Machine] says what the guest has: processors, memory, kernel, initrd, one
// virtio-fs store, a kernel console and perhaps a program console. A
// [Hypervisor] checks it against its monitor's rules, makes the [Command], and
// reads how the guest ended from the monitor's own event channel. Nothing here
// starts a guest, except for [ProbeKVM], which decides by a trial whether
// hardware virtualisation works.
//
// Every machine is single-shot: a guest that panics or reboots ends it.
//
// Consoles are files. A monitor drops what a guest writes to a virtio console
// when the other side is slow (QEMU's hw/char/virtio-console.c says so), and a
// regular file is never slow; whoever wants the output follows the file.
//
// Sources: qemu(1); the documentation and source of cloud-hypervisor v53
// (vmm/src/vm_config.rs for the rules); virtio 1.2, section 5.11.
package vmm
