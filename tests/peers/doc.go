// Package peers tests against the programs whose place ours take: snix-store and
// tvix-store, as real peers over gRPC, on disk and in front of a VM, and
// cloud-hypervisor.
//
// They are in no distribution, so the tests need the build tag "peers", take the
// programs from $PATH and skip what is not there:
//
//	go test -tags peers ./tests/peers
package peers
