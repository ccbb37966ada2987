// Package storecache makes services of services: a near one that keeps what
// was read from a far one, a bounded memory of path infos, and one that signs
// path infos. Source: spec/store.md 2.4.
//
// # Near and far
//
// [NewBlobs], [NewDirectories] and [NewPathInfos] look in near, then in far, and
// store in near what far had. Far is only read: what is put goes to near alone.
// So near holds a part of a store, and what it holds may refer to what only far
// has: near is of use by itself only for what was put.
//
// Whoever asks for the same thing at the same time shares one request to far.
// What far sends is checked by its digest before it is stored or handed out; the
// number of transfers and the memory for trees are bounded.
//
// Near is a help and no more where something is read: if it cannot be read or
// written, far answers, and the log is told. It is not where something is put:
// there its errors are the caller's.
//
// A path info that near has is not looked up in far again, so later signatures
// there are not seen. That something is missing is not remembered.
//
// # Durability
//
// Flush makes what was put survive a power loss, and also what Has found in far
// alone, as the caller may refer to it. What was copied from far is flushed now
// and then and at Close; a power loss costs no more than fetching it again.
//
// # Closing
//
// Close ends what goes on in the background. It closes neither near nor far,
// which others may use too: whoever opened them does, afterwards.
package storecache
