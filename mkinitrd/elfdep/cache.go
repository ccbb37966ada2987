package elfdep

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

const (
	cachePath = "/etc/ld.so.cache"
	// cacheMagic begins the format of glibc 2.2 and later, which an older one
	// may precede.
	cacheMagic  = "glibc-ld.so.cache1.1"
	oldMagic    = "ld.so-1.7.0\x00"
	cacheHeader = 48
	cacheEntry  = 24
	maxCache    = 64 << 20
)

// readCache reads ld.so.cache: the paths of each library's name, in order. The
// error wraps fs.ErrNotExist if there is none.
func readCache(r root) (map[string][]string, error) {
	file, err := r.regular(cachePath)
	if errors.Is(err, ErrNotFound) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCache))
	if err != nil {
		return nil, err
	}
	out, err := parseCache(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: run ldconfig", file, err)
	}
	return out, nil
}

// parseCache parses the cache of either byte order.
func parseCache(b []byte) (map[string][]string, error) {
	if bytes.HasPrefix(b, []byte(oldMagic)) && len(b) >= 16 {
		n := uint64(binary.NativeEndian.Uint32(b[12:]))
		at := (16 + n*12 + 7) &^ 7
		if at > uint64(len(b)) {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[at:]
	}
	if !bytes.HasPrefix(b, []byte(cacheMagic)) {
		return nil, errors.New("not a cache of glibc")
	}
	if len(b) < cacheHeader {
		return nil, io.ErrUnexpectedEOF
	}
	var order binary.ByteOrder = binary.LittleEndian
	if b[28]&3 == 3 { // flags: 2 little, 3 big, 0 unknown
		order = binary.BigEndian
	}
	n := uint64(order.Uint32(b[20:]))
	if cacheHeader+n*cacheEntry > uint64(len(b)) {
		return nil, io.ErrUnexpectedEOF
	}
	text := func(at uint32) (string, error) {
		if uint64(at) >= uint64(len(b)) {
			return "", io.ErrUnexpectedEOF
		}
		rest := b[at:min(uint64(len(b)), uint64(at)+4096)]
		s, _, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return "", io.ErrUnexpectedEOF
		}
		return string(s), nil
	}
	out := map[string][]string{}
	for i := range n {
		e := b[cacheHeader+i*cacheEntry:]
		if hwcap := order.Uint64(e[16:]); hwcap>>32 != 0 {
			continue // for processors with more than the guest may have
		}
		key, err := text(order.Uint32(e[4:]))
		if err != nil {
			return nil, err
		}
		value, err := text(order.Uint32(e[8:]))
		if err != nil {
			return nil, err
		}
		out[key] = append(out[key], value)
	}
	return out, nil
}
