package objectstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"

	"storeboot/virtiofsd/castore"
)

const (
	// maxDirectory is the longest encoded directory in bytes, of more than a
	// million entries.
	maxDirectory = 128 << 20
	// maxBundle is the longest dirs/ object in bytes, as stored.
	maxBundle = 1 << 30
)

// bundle is a directory and all below it.
type bundle struct {
	order []*castore.Directory // the root first, each after one that refers to it
	dirs  map[castore.Digest]*castore.Directory
	bytes int64 // encoded
}

// encodeBundle encodes the rows of an upload, whose last is the root.
func encodeBundle(rows []castore.DirectoryRow) ([]byte, error) {
	var b bytes.Buffer
	// One frame, as the reader of snix takes no more.
	z, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedDefault), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("encode directories: %w", err)
	}
	// Children come before parents in an upload, so the other way round each
	// comes after all that refer to it.
	for i := len(rows) - 1; i >= 0; i-- {
		encoded := rows[i].Encoded
		if len(encoded) > maxDirectory {
			return nil, fmt.Errorf("encode directories: %s has %d bytes, of at most %d", rows[i].Digest, len(encoded), maxDirectory)
		}
		_, err1 := z.Write(binary.BigEndian.AppendUint32(nil, uint32(len(encoded))))
		_, err2 := z.Write(encoded)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("encode directories: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("encode directories: %w", err)
	}
	return b.Bytes(), nil
}

// parseBundle parses the dirs/ object of root. Each record must be a directory
// that the ones before call for, so nothing but the tree of root takes memory.
func parseBundle(root castore.Digest, stored []byte) (*bundle, error) {
	z, err := zstd.NewReader(bytes.NewReader(stored), zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(128<<20))
	if err != nil {
		return nil, fmt.Errorf("parse directories: %w", err)
	}
	defer z.Close()
	b := &bundle{dirs: map[castore.Digest]*castore.Directory{}}
	wanted := map[castore.Digest]bool{root: true}
	for {
		encoded, err := readRecord(z)
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("parse directories: record %d: %w", len(b.order), err)
		}
		dir, err := castore.ParseDirectory(encoded)
		if err != nil {
			return nil, fmt.Errorf("parse directories: record %d: %w", len(b.order), err)
		}
		if !wanted[dir.Digest()] {
			return nil, fmt.Errorf("parse directories: record %d: %s is not referred to before, or there twice", len(b.order), dir.Digest())
		}
		delete(wanted, dir.Digest())
		b.order = append(b.order, dir)
		b.dirs[dir.Digest()] = dir
		b.bytes += int64(len(encoded))
		for _, e := range dir.Entries() {
			if e.Kind == castore.KindDirectory && b.dirs[e.Digest] == nil {
				wanted[e.Digest] = true
			}
		}
	}
	for missing := range wanted {
		return nil, fmt.Errorf("parse directories: %d are missing, among them %s", len(wanted), missing)
	}
	return b, nil
}

// readRecord reads one record. It returns io.EOF at the end of all. Memory grows
// with what is there, not with what the length says.
func readRecord(r io.Reader) ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if length > maxDirectory {
		return nil, fmt.Errorf("a directory of %d bytes, of at most %d", length, maxDirectory)
	}
	var b bytes.Buffer
	b.Grow(int(min(length, 64<<10)))
	n, err := io.CopyN(&b, r, int64(length))
	if n < int64(length) && (err == nil || err == io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
