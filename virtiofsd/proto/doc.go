// Package proto holds the .proto files of the store's gRPC services, under the
// names of snix and of tvix, and a test that the Go code made of them is not
// stale.
//
// The messages of both names have the same encodings; only the packages and a
// few names of messages and fields differ (spec/store.md 0, 1.1 to 1.3).
// Therefore the programs use the code of the snix names (castorev1, storev1).
// The code of the tvix names is there for its descriptors, which a server with
// reflection shows.
//
// After a change of a .proto file run go generate ./virtiofsd/proto. The
// generator is a module of its own in generate/, which pins the compiler and
// the plugins; it needs nothing but Go.
package proto

//go:generate go -C generate run . .. ..
