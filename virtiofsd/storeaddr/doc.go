// Package storeaddr opens the store that addresses or a composition file name,
// as flags and the environment give them.
//
//	memory:                    all: of this process alone
//	file:///DIR                blobs: files, package fileblobs
//	sqlite:///FILE             directories, path infos: package sqlitestore
//	objectstore+SCHEME://...   blobs, directories: package objectstore; SCHEME is
//	                           file, memory, s3, gs, az, http, https, ...
//	bigtable://INSTANCE?...    directories, path infos: package bigtablestore
//	grpc+unix:///PATH          all: package grpcstore
//	grpc+http://HOST:PORT
//	grpc+https://HOST:PORT
//	cache:?near=A&far=B        all: package storecache; A and B are addresses
//	combined:?near=A&far=B     blobs: the same
//	lru:?capacity=N            path infos: package storecache
//	keyfile-signing:?inner=A&keyfile=FILE
//	                           path infos: package storecache
//	nix+https://HOST?...       path infos: a binary cache, packages binarycache and
//	                           substitute; also nix+http, nix+file, nix+s3
//	sled:///PATH               all: what file: or sqlite: is
//	redb:///FILE               directories, path infos: what sqlite: is
//
// X:// is the same as X:. Paths are absolute; %XX stands for a byte, and within
// a parameter & is %26, # is %23 and % is %25 (+ is itself). sled: and redb:
// without a path are memory:. They are the addresses of tvix and snix, whose databases only
// their own programs can read: one that is found at the path is refused, and not
// touched.
//
// What a nix+ address finds is brought into the blobs and directories of the
// store; as the far of cache: also into its near, which is asked first.
//
// An address that is not given is that of the embedded store: file:///DIR/blobs
// and sqlite:///DIR/store.sqlite. Precedence: flag, environment, default. A
// composition file (package composition) stands for all three addresses.
//
// Services with the same address, also within others, are one: they share the
// database, the bucket or the connection.
//
// Addresses are parsed strictly, so that a slip is an error and not another
// store: unknown schemes, parameters, hosts and fragments are refused. Errors
// leave the parameters of addresses out: they may hold credentials.
package storeaddr
