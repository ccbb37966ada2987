// Package castore is the content-addressed store of file contents and
// directories that tvix and snix define: blobs, directories and the nodes that
// name them, their digests and their services.
//
// A [Blob] is the contents of one file, named by the BLAKE3-256 of its bytes.
// A [Directory] names its children; its digest is the BLAKE3-256 of its
// canonical protobuf encoding, so a digest stands for a whole tree. A [Node]
// is one child, or the root of a tree; it has no name, names belong to the
// directory (or path info) that holds it.
//
// Format: spec/store.md 1.1 to 1.5. Everything that enters is checked by
// digest and by the rules there; nothing else is trusted.
package castore
