package sqlitestore

import (
	"context"
	"database/sql"
	"errors"

	"storeboot/virtiofsd/castore"
)

// directoryTable is the table of directories.
type directoryTable struct{ db *DB }

func (t directoryTable) Get(ctx context.Context, d castore.Digest) ([]byte, error) {
	var encoded []byte
	err := t.db.getDirectory.QueryRowContext(ctx, d[:]).Scan(&encoded)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, castore.ErrNotFound
	}
	return encoded, err
}

func (t directoryTable) Put(ctx context.Context, rows []castore.DirectoryRow) error {
	return t.db.write(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, "INSERT OR IGNORE INTO directory (digest, encoded) VALUES (?, ?)")
		if err != nil {
			return err
		}
		defer insert.Close()
		for i := range rows {
			// The empty directory is no bytes, which are not NULL.
			encoded := append([]byte{}, rows[i].Encoded...)
			if _, err := insert.ExecContext(ctx, rows[i].Digest[:], encoded); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t directoryTable) Close() error { return nil }
