package bigtablestore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

const (
	// listPage is how many path infos List reads at once.
	listPage = 256
	// listTimeout bounds the reading of a page, for which the server may have
	// to pass over rows that are no path infos.
	listTimeout = time.Minute
	// pathInfoKey is the form of the keys of path infos.
	pathInfoKey = "[0-9a-f]{40}"
)

// OpenPathInfos opens the path infos at an address. No request is made.
func OpenPathInfos(ctx context.Context, url string) (pathinfo.Service, error) {
	t, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	return pathInfos{t}, nil
}

// pathInfos is the path info service of a table.
type pathInfos struct{ *table }

func key(hash storepath.Hash) string { return hex.EncodeToString(hash[:]) }

func (s pathInfos) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	value, err := s.get(ctx, key(hash))
	if errors.Is(err, errNoRow) {
		err = pathinfo.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("get path info %s: %w", hash, err)
	}
	return decode(hash, value)
}

// decode parses the value of the row of hash.
func decode(hash storepath.Hash, value []byte) (*pathinfo.PathInfo, error) {
	p, err := pathinfo.Parse(value)
	if err == nil && p.StorePath.Hash != hash {
		err = fmt.Errorf("what is stored is that of %s: the store is damaged", p.StorePath)
	}
	if err != nil {
		return nil, fmt.Errorf("get path info %s: %w", hash, err)
	}
	return p, nil
}

func (s pathInfos) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	value, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	hash := p.StorePath.Hash
	err = s.writable()
	if err == nil {
		err = checkValue("path info of "+p.StorePath.String(), value)
	}
	if err == nil {
		err = s.put(ctx, []row{{key(hash), value}})
	}
	if err != nil {
		return nil, fmt.Errorf("put path info of %s: %w", p.StorePath, err)
	}
	return decode(hash, value)
}

// List implements [pathinfo.Service]. It holds no request between pages, so a
// caller may take its time.
func (s pathInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		for start := ""; ; {
			rows, err := s.page(ctx, start, pathInfoKey, listPage, listTimeout)
			if err != nil {
				yield(nil, fmt.Errorf("list path infos: %w", err))
				return
			}
			for _, r := range rows {
				raw, err := hex.DecodeString(r.key)
				if err != nil || len(raw) != storepath.HashSize {
					yield(nil, fmt.Errorf("list path infos: %s: the row %q has a key of another form", s.address, r.key))
					return
				}
				if r.value == nil {
					continue // a row of something else
				}
				p, err := decode(storepath.Hash(raw), r.value)
				if err != nil {
					yield(nil, err)
					return
				}
				if !yield(p, nil) {
					return
				}
			}
			if len(rows) < listPage {
				return
			}
			start = rows[len(rows)-1].key + "\x00"
		}
	}
}
