// Package kernel finds a kernel on the host that can boot a guest.
//
// Distributions install a kernel as /boot/vmlinuz-RELEASE and its modules below
// /lib/modules/RELEASE. Without its modules a distribution's kernel is of no
// use: virtio-fs is one of them.
package kernel
