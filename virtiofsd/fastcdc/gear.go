package fastcdc

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"sync"
)

// gearTable maps a byte to a random number. shifted is the same one bit to the
// left.
type gearTable struct{ plain, shifted [256]uint64 }

// gear returns the table: the number of byte i is the first 8 bytes, big
// endian, of the MD5 of 64 bytes i.
var gear = sync.OnceValue(func() *gearTable {
	t := &gearTable{}
	for i := range t.plain {
		sum := md5.Sum(bytes.Repeat([]byte{byte(i)}, 64))
		t.plain[i] = binary.BigEndian.Uint64(sum[:])
		t.shifted[i] = t.plain[i] << 1
	}
	return t
})
