// Package archive reads a whole initrd, of whatever builder: its segments in
// their order, and the entries in each.
//
// An initrd is a row of segments with zero bytes between them (kernel:
// Documentation/driver-api/early-userspace/buffer-format.rst). A segment is an
// archive in newc form, at an offset that is a multiple of 4, or one compressed
// stream that holds one or several such archives. Segments that the kernel
// looks into before it unpacks anything (CPU microcode, ACPI tables) come first
// and are not compressed.
//
// It is for looking at images. It takes what is sound, and reports what is not:
// input that ends inside an entry or without the end mark of an archive, and
// bytes that belong to no segment, are errors that name the segment and the
// offset in the file, and come after all that was readable. What a kernel makes
// of such an image is another question: package unpack.
//
// Nothing that is read is trusted. Entries are streamed, and no more is held in
// memory than the codec needs; how much an image may unpack to is limited, since
// it has to fit into a machine's memory.
package archive
