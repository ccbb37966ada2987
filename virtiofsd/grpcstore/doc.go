// Package grpcstore is the store of a gRPC server, ours or one of tvix or snix,
// as a blob, a directory and a path info service.
//
// Source of the methods and the addresses: spec/store.md 1.3 and 2.2. Which of
// the two names a server speaks is found out by the first call.
//
// # Trust
//
// The server is trusted to keep what it is given and with nothing else. A blob
// is read whole and compared with its digest before a byte of it is handed out:
// the protocol has nothing by which a part of one could be checked (the chunks
// that tvix and snix list have digests that do not add up to that of the blob).
// So who reads the beginning of a large blob waits for its end, once if a cache
// keeps it. A directory is compared with its digest, a path info with the rules and the
// hash that was asked for. A server that dies in between, or sends something
// else, is an error that names the thing. A list of path infos is not
// verifiable: a server can leave some out.
//
// # Limits
//
// Every wait for the server has a limit ([Options].Timeout, [Options].Idle).
// Blobs above [Options].SpoolMemory go to unlinked temporary files, so that
// memory does not grow with their size; a message has at most
// [wire.MaxReply] bytes. The directories of an upload are held in memory until
// it is complete.
//
// # Durability
//
// Our own server is asked to flush blobs to the disk when Flush is called and
// not before; foreign ones do as they do. If the server was restarted between
// a blob and its Flush, Flush fails, and so does all later use of the
// connection for writing blobs: what was not flushed may be gone.
package grpcstore
