// Package wire is what the gRPC client and server of the store share beyond the
// generated messages: a codec that hands over messages as the bytes that came,
// sizes, and the metadata by which the two know each other.
//
// # Codec
//
// A digest is that of bytes, so a directory has to be checked as it came, not
// as a decoder understood it; and the contents of a blob need not be copied
// into a message first. [Codec] encodes and decodes [Encoded] and [Chunk] by
// itself and leaves everything else to the protobuf codec. On the wire there is
// no difference.
//
// # Metadata
//
// Foreign clients and servers do not know these keys and are served by the
// rules of spec/store.md 1.3:
//
//   - storeboot-durability, sent with BlobService/Put. Without it a blob is
//     flushed to the disk before the reply. "deferred" puts that off until a
//     Put with "flush", a Directory or a PathInfo follows.
//   - storeboot-instance, sent in the header of the reply to such a Put: a
//     random name of the server process. What was deferred by one process is
//     not flushed by its successor, and this tells them apart.
//   - storeboot-list-order: "hash", sent in the header of PathInfoService/List:
//     the path infos come in the order of their hashes.
package wire
