// Package compress has the compressions of an initramfs segment. It writes zstd
// (the default), gzip, xz, lz4 (in its legacy form, the one that the kernel
// knows) and none, and reads those, lzma and bzip2: all that a kernel can unpack
// but lzo.
//
// The kernel's unpackers (lib/decompress_*.c, read at 6.1) accept less than the
// formats allow, and the writers here keep to that: one frame or member per
// segment, since a second one may begin only where an archive does; no
// skippable frame; a zstd window of at most 8 MiB, which the kernel has to
// allocate in one piece. Output is padded with zero bytes to a multiple of 4,
// where an uncompressed segment may follow.
//
// The same input and level give the same bytes, on any machine: no times or
// names are recorded, and the number of processors changes nothing.
//
// Readers trust nothing: they allocate no more than the window or dictionary
// that a stream asks for, up to 128 MiB, beyond which the kernel does not boot
// it either. How much a stream unpacks to is for the caller to limit. They end
// with the stream and leave what follows it unread, since in an initrd that is
// the next segment; input that ends inside a stream is io.ErrUnexpectedEOF.
//
// Formats: RFC 8878 (zstd), RFC 1952 (gzip), tukaani.org/xz/xz-file-format.txt
// (xz), its companion lzma-file-format.txt (lzma), lz4_Frame_format.md in the
// sources of lz4, "Legacy frame" (lz4).
package compress
