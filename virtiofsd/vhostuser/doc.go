// Package vhostuser is the back end of the vhost-user protocol: a VMM (the
// front end) connects to our unix socket, hands over its guest's memory and
// virtqueues by file descriptor, and from then on the guest's requests reach us
// without it (QEMU's documentation, "Vhost-user Protocol"; what QEMU and
// cloud-hypervisor really send: spec/vmm.md 1.1 and 1.2).
//
//	message  request u32 | flags u32 | size u32 | payload of size bytes
//	flags    bits 0-1 version (1), bit 2 reply, bit 3 need_reply
//
// A [Backend] serves one connection. One goroutine reads its messages, one per
// running queue handles requests; they meet only when a queue is stopped, and a
// stop waits for the request that is being handled. So GET_VRING_BASE, disabling
// a queue and any change of the memory map happen with nothing in flight.
//
// The front end is not trusted: whatever breaks the protocol ends its
// connection, and no other. Descriptors that it passes are shared with it, so
// their file status flags (O_NONBLOCK) are left alone. A front end that
// truncates its guest's memory gets its own connection ended too.
package vhostuser
