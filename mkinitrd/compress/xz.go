package compress

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"hash/crc64"
	"io"

	"github.com/ulikunitz/xz/lzma"
)

// XZCheck is the integrity check of an xz stream.
type XZCheck byte

const (
	XZCheckNone   XZCheck = 0
	XZCheckCRC32  XZCheck = 1
	XZCheckCRC64  XZCheck = 4
	XZCheckSHA256 XZCheck = 10
)

// CheckOfXZ returns the check that the stream which begins with head has; head
// needs 8 bytes. The kernel knows none and CRC32 alone.
func CheckOfXZ(head []byte) (XZCheck, bool) {
	if len(head) < 8 || Detect(head) != XZ {
		return 0, false
	}
	return XZCheck(head[7] & 15), true
}

// xzReader reads one xz stream. It is the container only: unlike the library's,
// it ends where the stream ends, limits the dictionary, and takes input that
// ends in the index for what it is.
type xzReader struct {
	r     *countingReader
	flags [2]byte
	sum   hash.Hash // of the block that is read, nil for no check
	block io.Reader // nil: between blocks
	begin int64     // where the block's header begins
	data  int64     // where its data begins
	size  int64     // unpacked, so far
	want  [2]int64  // packed and unpacked size that the header gives, or -1
	index []xzRecord
	err   error
}

type xzRecord struct{ unpadded, size int64 }

// maxXZBlocks bounds the index; xz makes a block of at least 1 MiB.
const maxXZBlocks = 1 << 20

func newXZReader(r *bufio.Reader) (*xzReader, error) {
	z := &xzReader{r: &countingReader{r: r}}
	var b [12]byte
	if _, err := io.ReadFull(z.r, b[:]); err != nil {
		return nil, err
	}
	copy(z.flags[:], b[6:8])
	if crc32.ChecksumIEEE(b[6:8]) != binary.LittleEndian.Uint32(b[8:]) {
		return nil, errors.New("header is damaged")
	}
	if z.flags[0] != 0 || z.flags[1] > 15 {
		return nil, fmt.Errorf("unknown flags % x", z.flags)
	}
	switch XZCheck(z.flags[1]) {
	case XZCheckNone:
	case XZCheckCRC32:
		z.sum = crc32.NewIEEE()
	case XZCheckCRC64:
		z.sum = crc64.New(crc64.MakeTable(crc64.ECMA))
	case XZCheckSHA256:
		z.sum = sha256.New()
	default:
		return nil, fmt.Errorf("unknown check %d", z.flags[1])
	}
	return z, nil
}

func (z *xzReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for z.err == nil {
		if z.block == nil {
			z.err = z.next()
			continue
		}
		n, err := z.block.Read(p)
		if z.sum != nil {
			_, _ = z.sum.Write(p[:n])
		}
		z.size += int64(n)
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			z.err = z.endBlock()
		case err != nil:
			z.err = err
			if _, e := z.r.r.Peek(1); errors.Is(e, io.EOF) {
				z.err = io.ErrUnexpectedEOF
			}
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, z.err
}

// next reads a block's header, or what follows the last block: io.EOF.
func (z *xzReader) next() error {
	z.begin = z.r.n
	first, err := z.r.ReadByte()
	if err != nil {
		return noEOF(err)
	}
	if first == 0 {
		if err := z.end(); err != nil {
			return noEOF(err)
		}
		return io.EOF
	}
	head := make([]byte, (int(first)+1)*4)
	head[0] = first
	if _, err := io.ReadFull(z.r, head[1:]); err != nil {
		return noEOF(err)
	}
	body, sum := head[:len(head)-4], head[len(head)-4:]
	if crc32.ChecksumIEEE(body) != binary.LittleEndian.Uint32(sum) {
		return errors.New("block header is damaged")
	}
	dict, err := z.blockHeader(body[1:])
	if err != nil {
		return err
	}
	z.data, z.size = z.r.n, 0
	if z.sum != nil {
		z.sum.Reset()
	}
	block, err := lzma.Reader2Config{DictCap: dict}.NewReader2(z.r)
	if err != nil {
		return noEOF(err)
	}
	z.block = block
	return nil
}

// blockHeader reads b, a block's header without its length and checksum, and
// returns the size of the dictionary.
func (z *xzReader) blockHeader(b []byte) (int, error) {
	errDamaged := errors.New("block header is not sound")
	flags, rest := b[0], bytes.NewReader(b[1:])
	if flags&0x3c != 0 {
		return 0, fmt.Errorf("unknown block flags %#x", flags)
	}
	for i := range z.want {
		z.want[i] = -1
		if flags&(0x40<<i) != 0 {
			v, err := binary.ReadUvarint(rest)
			if err != nil || int64(v) < 0 {
				return 0, errDamaged
			}
			z.want[i] = int64(v)
		}
	}
	id, err := binary.ReadUvarint(rest)
	if err != nil {
		return 0, errDamaged
	}
	if id != 0x21 || flags&3 != 0 {
		return 0, fmt.Errorf("has filter %#x before LZMA2, which is not read here: unpack it first (xz -d)", id)
	}
	n, _ := rest.ReadByte()
	prop, err := rest.ReadByte()
	if err != nil || n != 1 {
		return 0, errDamaged
	}
	dict, err := lzma.DecodeDictCap(prop)
	if err != nil {
		return 0, errDamaged
	}
	if dict > maxReadWindow {
		return 0, fmt.Errorf("dictionary of %d bytes: the kernel takes %d", dict, maxReadWindow)
	}
	for rest.Len() > 0 {
		if c, _ := rest.ReadByte(); c != 0 {
			return 0, errDamaged
		}
	}
	return max(int(dict), lzma.MinDictCap), nil
}

// endBlock reads a block's padding and check.
func (z *xzReader) endBlock() error {
	packed := z.r.n - z.data
	if z.want[0] >= 0 && z.want[0] != packed || z.want[1] >= 0 && z.want[1] != z.size {
		return errors.New("block has another size than its header says")
	}
	var pad [4]byte
	p := pad[:-packed&3]
	if _, err := io.ReadFull(z.r, p); err != nil {
		return noEOF(err)
	}
	if pad != [4]byte{} {
		return errors.New("block padding is not zero")
	}
	n := int64(0)
	if z.sum != nil {
		sum := z.sum.Sum(nil)
		if XZCheck(z.flags[1]) != XZCheckSHA256 {
			// The CRCs are stored with the low byte first.
			for i, j := 0, len(sum)-1; i < j; i, j = i+1, j-1 {
				sum[i], sum[j] = sum[j], sum[i]
			}
		}
		got := make([]byte, len(sum))
		if _, err := io.ReadFull(z.r, got); err != nil {
			return noEOF(err)
		}
		if !bytes.Equal(got, sum) {
			return errors.New("checksum of a block is wrong")
		}
		n = int64(len(sum))
	}
	if len(z.index) == maxXZBlocks {
		return fmt.Errorf("more than %d blocks", maxXZBlocks)
	}
	z.index = append(z.index, xzRecord{z.data + packed - z.begin + n, z.size})
	z.block = nil
	return nil
}

// end reads the index, whose first byte is read, and the footer.
func (z *xzReader) end() error {
	sum := crc32.NewIEEE()
	_, _ = sum.Write([]byte{0})
	z.r.sum = sum
	count, err := binary.ReadUvarint(z.r)
	if err != nil {
		return err
	}
	if count != uint64(len(z.index)) {
		return fmt.Errorf("index has %d blocks, the stream %d", count, len(z.index))
	}
	for _, want := range z.index {
		unpadded, err := binary.ReadUvarint(z.r)
		if err != nil {
			return err
		}
		size, err := binary.ReadUvarint(z.r)
		if err != nil {
			return err
		}
		if (xzRecord{int64(unpadded), int64(size)}) != want {
			return errors.New("index does not fit the blocks")
		}
	}
	for (z.r.n-z.begin)%4 != 0 {
		c, err := z.r.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return errors.New("index padding is not zero")
		}
	}
	z.r.sum = nil
	size := z.r.n - z.begin
	var b [16]byte // the index's checksum, then the footer
	if _, err := io.ReadFull(z.r, b[:]); err != nil {
		return err
	}
	f := b[4:]
	if binary.LittleEndian.Uint32(b[:]) != sum.Sum32() || binary.LittleEndian.Uint32(f) != crc32.ChecksumIEEE(f[4:10]) ||
		(int64(binary.LittleEndian.Uint32(f[4:]))+1)*4 != size+4 || f[8] != z.flags[0] || f[9] != z.flags[1] || string(f[10:]) != "YZ" {
		return errors.New("footer is damaged")
	}
	return nil
}

// countingReader counts what is read, and sums it if sum is set.
type countingReader struct {
	r   *bufio.Reader
	n   int64
	sum hash.Hash
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.sum != nil {
		_, _ = c.sum.Write(p[:n])
	}
	return n, err
}

func (c *countingReader) ReadByte() (byte, error) {
	b, err := c.r.ReadByte()
	if err == nil {
		c.n++
		if c.sum != nil {
			_, _ = c.sum.Write([]byte{b})
		}
	}
	return b, err
}
