package wire

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec for all other messages
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// FrameSize is how much of a blob goes into one message, in bytes. Readers
	// of tvix and snix take up to 4 MiB; what they send is 4 to 8 KiB, which
	// costs a message for each page.
	FrameSize = 256 << 10

	// MaxMessage is the longest message that the server accepts unless told
	// otherwise, in bytes: room for a directory of 200,000 entries. tvix and
	// snix accept 4 MiB.
	MaxMessage = 16 << 20

	// MaxReply is the longest message that the client accepts, in bytes. It
	// talks to few servers, so it can afford more than a server.
	MaxReply = 64 << 20
)

// Metadata keys and values; see the package comment.
const (
	DurabilityKey      = "storeboot-durability"
	DurabilityDeferred = "deferred"
	DurabilityFlush    = "flush"
	InstanceKey        = "storeboot-instance"
	ListOrderKey       = "storeboot-list-order"
	ListOrderHash      = "hash"
)

// Encoded is any message in its encoding.
type Encoded []byte

// Chunk is a BlobChunk message. Its zero value is an empty one.
type Chunk struct {
	data mem.BufferSlice // to be sent
	r    *mem.Reader     // over what was received
}

// NewChunk makes a chunk of buf, which came from pool and goes back there once
// it is sent.
func NewChunk(buf *[]byte, pool mem.BufferPool) *Chunk {
	return &Chunk{data: mem.BufferSlice{mem.NewBuffer(buf, pool)}}
}

// Len is the length of the contents of a received chunk, in bytes.
func (c *Chunk) Len() int {
	if c.r == nil {
		return 0
	}
	return c.r.Remaining()
}

// WriteTo writes the contents of a received chunk and frees it.
func (c *Chunk) WriteTo(w io.Writer) (int64, error) {
	defer c.Free()
	if c.r == nil {
		return 0, nil
	}
	parts, err := c.r.Peek(c.r.Remaining(), nil)
	if err != nil {
		return 0, err
	}
	var sum int64
	for _, p := range parts {
		n, err := w.Write(p)
		sum += int64(n)
		if err != nil {
			return sum, err
		}
	}
	return sum, nil
}

// Free gives the memory of a received chunk back, if WriteTo has not.
func (c *Chunk) Free() {
	if c.r != nil {
		_ = c.r.Close()
		c.r = nil
	}
}

// chunkDataTag is the tag of BlobChunk.data.
const chunkDataTag = 1<<3 | byte(protowire.BytesType)

var errNotChunk = errors.New("decode blob chunk: not one field of bytes")

// receive takes over data, which is encoded as a BlobChunk. Only an encoding
// without repeated and unknown fields is taken.
func (c *Chunk) receive(data mem.BufferSlice) error {
	c.Free()
	if data.Len() == 0 {
		return nil
	}
	r := data.Reader() // holds its own references
	if err := skipHeader(r); err != nil {
		_ = r.Close()
		return err
	}
	c.r = r
	return nil
}

// skipHeader reads the tag and the length, which has to be that of the rest.
func skipHeader(r *mem.Reader) error {
	if tag, err := r.ReadByte(); err != nil || tag != chunkDataTag {
		return errNotChunk
	}
	var size uint64
	for shift := 0; ; shift += 7 {
		b, err := r.ReadByte()
		if err != nil || shift > 28 {
			return errNotChunk
		}
		size |= uint64(b&0x7f) << shift
		if b < 0x80 {
			break
		}
	}
	if size != uint64(r.Remaining()) {
		return errNotChunk
	}
	return nil
}

// Codec is the codec to force on servers and clients.
type Codec struct{}

// Name is the name of the protobuf codec: there is no difference on the wire.
func (Codec) Name() string { return "proto" }

// Marshal encodes v. An Encoded must not be changed after; a Chunk is used up.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch v := v.(type) {
	case *Encoded:
		return mem.BufferSlice{mem.SliceBuffer(*v)}, nil
	case *Chunk:
		n := v.data.Len()
		if n == 0 {
			return nil, nil
		}
		header := protowire.AppendVarint([]byte{chunkDataTag}, uint64(n))
		return append(mem.BufferSlice{mem.SliceBuffer(header)}, v.data...), nil
	}
	p := encoding.GetCodecV2("proto")
	if p == nil {
		return nil, fmt.Errorf("encode %T: there is no protobuf codec", v)
	}
	return p.Marshal(v)
}

// Unmarshal decodes data.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch v := v.(type) {
	case *Encoded:
		*v = data.Materialize()
		return nil
	case *Chunk:
		return v.receive(data)
	}
	p := encoding.GetCodecV2("proto")
	if p == nil {
		return fmt.Errorf("decode %T: there is no protobuf codec", v)
	}
	return p.Unmarshal(data, v)
}
