// Package manifest says what an image holds and why, as JSON, and makes a
// software bill of materials of that (SPDX 2.3, https://spdx.github.io/spdx-spec/v2.3).
//
// A manifest lies beside its image, since an image is to hold nothing that its
// guest does not need; it may be put into the image too, at [EmbeddedPath].
// Beside the image, it has the image's digest, and tells a stale one from its
// own. In it, it has none, and no names of files of the machine that built it,
// which would make the image depend on them.
//
// The same image gives the same manifest. A manifest that is read is not
// trusted: unknown keys are errors, and it has a limited size.
package manifest
