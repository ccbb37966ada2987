// Package ipconfig reads the kernel parameter ip=, by the kernel's own rules
// (Linux, Documentation/admin-guide/nfs/nfsroot.rst and net/ipv4/ipconfig.c):
//
//	ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
//	ip=AUTOCONF
//
// Every field may be empty. AUTOCONF is off or none; dhcp, on, any or both, which
// mean DHCP here; or dhcp,TYPE,VALUE with the client identifier to send. Without
// it an address that is given is used, and one that is not is asked for. The last
// parameter that names a device, or none, counts for that device; the kernel
// itself knows only one.
//
// The mask may be a number of bits too. Without one it is that of the address's
// class, as in the kernel.
package ipconfig
