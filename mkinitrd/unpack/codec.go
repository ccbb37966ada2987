package unpack

import (
	"errors"
	"fmt"

	"github.com/klauspost/compress/gzip"

	"storeboot/mkinitrd/compress"
)

// signatures are the two bytes by which the kernel tells its codecs apart.
var signatures = []struct {
	bytes [2]byte
	codec compress.Codec
}{
	{[2]byte{0x1f, 0x8b}, compress.Gzip}, {[2]byte{0x1f, 0x9e}, compress.Gzip},
	{[2]byte{'B', 'Z'}, compress.Bzip2}, {[2]byte{0x5d, 0x00}, compress.LZMA},
	{[2]byte{0xfd, '7'}, compress.XZ}, {[2]byte{0x89, 'L'}, compress.LZO},
	{[2]byte{0x02, 0x21}, compress.LZ4}, {[2]byte{0x28, 0xb5}, compress.Zstd},
}

// detect is the codec that the kernel takes a stream for, "" for none.
func detect(head []byte) compress.Codec {
	for _, s := range signatures {
		if len(head) >= 2 && [2]byte(head) == s.bytes {
			return s.codec
		}
	}
	return ""
}

// refused says why the kernel does not unpack the stream, though the format
// allows what it has. Other reasons come up while it is read.
func refused(c compress.Codec, head []byte) string {
	if len(head) < 12 {
		return ""
	}
	switch c {
	case compress.Gzip:
		if extra := head[3] &^ 0b01001; head[1] == 0x8b && extra != 0 {
			return fmt.Sprintf("the gzip header has fields (flags %#x) that the kernel does not skip", head[3])
		}
	case compress.XZ:
		if check, ok := compress.CheckOfXZ(head); ok && check != compress.XZCheckNone && check != compress.XZCheckCRC32 {
			return "the xz stream is checked by something else than CRC32, which is all the kernel knows (xz --check=crc32)"
		}
	}
	return ""
}

func badSum(err error) bool { return errors.Is(err, gzip.ErrChecksum) }
