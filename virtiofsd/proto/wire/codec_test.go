package wire_test

import (
	"bytes"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"storeboot/virtiofsd/proto/castorev1"
	"storeboot/virtiofsd/proto/wire"
)

// split cuts b into buffers of at most n bytes, as the transport does.
func split(b []byte, n int) mem.BufferSlice {
	var s mem.BufferSlice
	for len(b) > n {
		s, b = append(s, mem.SliceBuffer(b[:n])), b[n:]
	}
	return append(s, mem.SliceBuffer(b))
}

func decodeChunk(s mem.BufferSlice) ([]byte, error) {
	var c wire.Chunk
	if err := (wire.Codec{}).Unmarshal(s, &c); err != nil {
		return nil, err
	}
	var out bytes.Buffer
	_, err := c.WriteTo(&out)
	return out.Bytes(), err
}

// TestChunk holds that a Chunk has the encoding of a BlobChunk.
func TestChunk(t *testing.T) {
	for _, size := range []int{0, 1, 127, 128, 16383, 16384, wire.FrameSize} {
		want := bytes.Repeat([]byte{7}, size)
		message, err := proto.Marshal(&castorev1.BlobChunk{Data: want})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range []int{1, 3, 1 << 20} {
			if got, err := decodeChunk(split(message, n)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%d bytes in pieces of %d: read %d bytes, %v", size, n, len(got), err)
			}
		}
		own := bytes.Clone(want)
		sent, err := (wire.Codec{}).Marshal(wire.NewChunk(&own, mem.NopBufferPool{}))
		if err != nil || !bytes.Equal(sent.Materialize(), message) {
			t.Errorf("%d bytes: other encoding than that of the message, %v", size, err)
		}
	}
}

func TestChunkRefused(t *testing.T) {
	for name, b := range map[string][]byte{
		"tag alone":      {0x0a},
		"other field":    {0x12, 1, 0},
		"number":         {0x08, 1},
		"too short":      {0x0a, 2, 0},
		"more fields":    {0x0a, 1, 0, 0x10, 1},
		"twice":          {0x0a, 1, 0, 0x0a, 1, 0},
		"endless length": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if got, err := decodeChunk(split(b, 1)); err == nil {
			t.Errorf("%s: taken for %d bytes", name, len(got))
		}
	}
}

// FuzzChunk holds that what is taken for a chunk is what protobuf reads.
func FuzzChunk(f *testing.F) {
	for _, b := range [][]byte{nil, {0x0a, 0}, {0x0a, 2, 'h', 'i'}, {0x0a, 0x82, 0, 'h', 'i'}, {0x0a, 1, 0, 0x10, 1}} {
		f.Add(b, 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, n int) {
		got, err := decodeChunk(split(b, max(n, 1)))
		if err != nil {
			return
		}
		var m castorev1.BlobChunk
		if err := proto.Unmarshal(b, &m); err != nil || !bytes.Equal(m.Data, got) {
			t.Errorf("%x: read as %x, by protobuf as %x, %v", b, got, m.Data, err)
		}
	})
}
