// Package nested runs commands where they have KVM, on a machine whose own KVM is
// of no use or that has none: in a VM of QEMU's TCG, which emulates AMD's SVM. The
// VM is a host, not a guest: its file system is this machine's, shared by QEMU's
// virtiofsd, with a /tmp, a /run and a /dev of its own. What is in it runs at a
// tenth of the speed, and guests of its KVM at a tenth of that.
//
// The processor is an EPYC: with more features ("max") cloud-hypervisor's guest
// dies of a triple fault.
package nested
