// Package control is how one launcher speaks to another that runs a VM: a unix
// socket in the VM's directory, which is this user's alone.
//
// A client sends one line of JSON, a [Request], and gets one, a [Reply]. For exec
// and attach frames of bootproto follow, both ways, until one side closes.
package control
