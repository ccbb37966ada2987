package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
)

// listPage is how many path infos List reads at once. It holds no connection
// between pages, so that its caller may use the service meanwhile.
const listPage = 256

// pathInfos is the path info service of a database.
type pathInfos struct{ db *DB }

func (s pathInfos) Get(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	var encoded []byte
	err := s.db.getPathInfo.QueryRowContext(ctx, hash[:]).Scan(&encoded)
	if errors.Is(err, sql.ErrNoRows) {
		err = pathinfo.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("get path info %s: %w", hash, err)
	}
	return parse(hash, encoded)
}

// parse parses the row of hash.
func parse(hash storepath.Hash, encoded []byte) (*pathinfo.PathInfo, error) {
	p, err := pathinfo.Parse(encoded)
	if err == nil && p.StorePath.Hash != hash {
		err = fmt.Errorf("what is stored is that of %s: the store is damaged", p.StorePath)
	}
	if err != nil {
		return nil, fmt.Errorf("get path info %s: %w", hash, err)
	}
	return p, nil
}

func (s pathInfos) Put(ctx context.Context, p *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	encoded, err := p.Encode()
	if err != nil {
		return nil, fmt.Errorf("put path info: %w", err)
	}
	err = s.db.write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT OR REPLACE INTO path_info (hash, encoded, used) VALUES (?, ?, ?)", p.StorePath.Hash[:], encoded, time.Now().Unix())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("put path info of %s: %w", p.StorePath, err)
	}
	return parse(p.StorePath.Hash, encoded)
}

func (s pathInfos) List(ctx context.Context) iter.Seq2[*pathinfo.PathInfo, error] {
	return func(yield func(*pathinfo.PathInfo, error) bool) {
		last := []byte{} // before every hash
		for {
			page, err := s.page(ctx, last)
			if err != nil {
				yield(nil, fmt.Errorf("list path infos: %w", err))
				return
			}
			for _, p := range page {
				if !yield(p, nil) {
					return
				}
				last = p.StorePath.Hash[:]
			}
			if len(page) < listPage {
				return
			}
		}
	}
}

// page reads the path infos that follow the hash last.
func (s pathInfos) page(ctx context.Context, last []byte) ([]*pathinfo.PathInfo, error) {
	rows, err := s.db.listPathInfo.QueryContext(ctx, last, listPage)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var page []*pathinfo.PathInfo
	for rows.Next() {
		var key, encoded []byte
		if err := rows.Scan(&key, &encoded); err != nil {
			return nil, err
		}
		if len(key) != storepath.HashSize {
			return nil, fmt.Errorf("a key of %d bytes: the store is damaged", len(key))
		}
		p, err := parse(storepath.Hash(key), encoded)
		if err != nil {
			return nil, err
		}
		page = append(page, p)
	}
	return page, rows.Err()
}

func (s pathInfos) Close() error { return nil }
