// Package vhostusertest is the other side for tests and benchmarks: a [FrontEnd]
// that plays the VMM, with guest memory in a memfd, and a [Queue] that plays the
// guest's driver. With it a vhost-user back end is driven, and abused, without a
// virtual machine.
package vhostusertest
