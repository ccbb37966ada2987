// Package superblock tells which file system is on a disk, and its names, from
// the disk's first 68 KiB.
//
// Layouts, all little-endian unless said otherwise:
//
//	ext2, ext3, ext4   Documentation/filesystems/ext4/super.rst: the superblock
//	                   at 1024: magic 0xEF53 at +56, UUID at +104, label of 16
//	                   bytes at +120; features at +92, +96 tell them apart
//	xfs                fs/xfs/libxfs/xfs_format.h, struct xfs_dsb: "XFSB" at 0,
//	                   UUID at 32, label of 12 bytes at 108
//	btrfs              fs/btrfs/btrfs_tree.h, struct btrfs_super_block at
//	                   65536: UUID at +32, "_BHRfS_M" at +64, label of 256
//	                   bytes at +299
//	erofs              fs/erofs/erofs_fs.h, struct erofs_super_block at 1024:
//	                   magic 0xE0F5E1E2, UUID at +48, label of 16 bytes at +64
//	squashfs           fs/squashfs/squashfs_fs.h: "hsqs" at 0; no names
//
// A disk's bytes are not trusted, and none of them is a length or an offset
// here. Checksums are left to the kernel, which mounts.
package superblock
