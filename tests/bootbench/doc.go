// Command bootbench measures how long a VM takes from the command that starts it
// to the first byte of its program's output, and to its end: started by our
// launcher, and beside it the floor: the same monitor, machine and kernel with a
// static init that prints and powers off. All rows of a table are run in turn, as
// often as asked for.
//
//	go run ./tests/bootbench                       # all that this machine can do
//	go run ./tests/bootbench -kernels /boot/vmlinuz-6.1.0-57-cloud-amd64,kernel/bzImage -runs 9
//	go run ./tests/bootbench -prepare DIR          # then, also on a machine without Go:
//	DIR/bootbench -dir DIR -accel kvm
//
// It needs qemu-system-x86_64 and gcc.
package main
