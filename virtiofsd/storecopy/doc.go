// Package storecopy copies store paths from one store to another, of whatever
// kinds they are.
//
// A path is copied as what it consists of: the blobs that the destination lacks,
// then its directories, then its path info, after all paths that it refers to.
// A copy that is cut short leaves no path without its contents or its
// references, and the next one goes on with what is missing.
//
// The source is not trusted. Every blob and directory is stored under the digest
// that its contents have, which has to be the one that was asked for. Before a
// path info is stored the NAR of the tree is made and compared with the size and
// hash that the source says. References, signatures and deriver are taken as
// they are.
//
// Memory: the directories of one store path, and a buffer for each blob that is
// being copied.
package storecopy
