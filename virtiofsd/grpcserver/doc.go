// Package grpcserver serves a store over gRPC: blobs, directories and path
// infos as tvix and snix define them, under the names of both at once, with
// health and reflection.
//
// Source of methods, status codes and the order of messages: spec/store.md 1.3.
//
// # What is reported as stored
//
// A blob is on the disk before its digest is sent, a tree before its root's
// digest, a path info before it is returned, each with all blobs put before it.
// Our own client asks to put the flush of blobs off (package wire), to pay for
// it once for many blobs.
//
// # Limits
//
// Peers are not trusted. A message has at most Options.MaxMessage bytes, a
// connection [maxStreams] calls at once, and the server Options.MaxConnections
// connections. The directories of uploads under way are held in memory until
// their tree is complete, all together up to Options.UploadMemory, of one upload
// up to half of it, and for Options.UploadTime; beyond that the answer is
// RESOURCE_EXHAUSTED. Blobs, of up to Options.MaxBlob bytes, go to the blob
// service piece by piece. A call whose peer neither sends nor takes
// anything for Options.Idle is ended. CalculateNAR takes trees of at most
// [maxNAREntries] entries, and runs once for each CPU at most. With a token,
// calls without it are refused before a message of theirs is read.
//
// A message is read into memory whole before it can be refused, so that what a
// server may be made to hold is MaxConnections times maxStreams times
// MaxMessage in the worst case: whoever lets strangers connect sets a token, or
// lower limits.
package grpcserver
