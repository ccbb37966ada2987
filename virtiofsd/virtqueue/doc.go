// Package virtqueue is the device side of split virtqueues in guest memory
// (virtio 1.2, 2.7), little-endian as virtio 1 has them on every machine.
//
//	descriptor table   size x { addr u64, len u32, flags u16, next u16 }
//	available ring     flags u16, idx u16, size x u16, used_event u16
//	used ring          flags u16, idx u16, size x { id u32, len u32 }, avail_event u16
//
// The guest owns all of this memory and may change any of it at any moment, so
// it is not trusted: each descriptor is copied out once and checked before use,
// every index and address is checked against the queue and the [Memory], and a
// chain has bounded length. What breaks a rule is an error wrapping
// [ErrInvalid]; the queue must then not be used any more.
//
// A [Queue] is used by one goroutine at a time. Reading guest memory may fault
// if the owner of the memory truncates its file; callers use
// [runtime/debug.SetPanicOnFault].
package virtqueue
