// Package storeaddr opens the store that addresses name, as flags and the
// environment give them.
//
//	memory:              blobs, directories, path infos: of this process alone
//	file:///DIR          blobs: plain files, package fileblobs
//	sqlite:///FILE       directories, path infos: package sqlitestore
//
// memory:// is the same as memory:. Paths are absolute; %XX stands for a byte.
// An address that is not given is that of the embedded store: file:///DIR/blobs
// and sqlite:///DIR/store.sqlite. Precedence: flag, environment, default.
//
// Addresses are parsed strictly, so that a slip is an error and not another
// store: unknown schemes, parameters, hosts and fragments are refused.
package storeaddr
