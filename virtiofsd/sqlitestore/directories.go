package sqlitestore

import (
	"context"
	"database/sql"
	"errors"
	"time"

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

// insertDirectory leaves a row that is there as it is, but for the time, which
// is written again when it is too old.
const insertDirectory = `INSERT INTO directory (digest, encoded, used) VALUES (?1, ?2, ?3)
ON CONFLICT (digest) DO UPDATE SET used = ?3 WHERE abs(?3 - used) >= ?4`

func (t directoryTable) Put(ctx context.Context, rows []castore.DirectoryRow) error {
	return t.db.write(ctx, func(tx *sql.Tx) error {
		insert, err := tx.PrepareContext(ctx, insertDirectory)
		if err != nil {
			return err
		}
		defer insert.Close()
		now := time.Now().Unix()
		for i := range rows {
			// The empty directory is no bytes, which are not NULL.
			encoded := append([]byte{}, rows[i].Encoded...)
			if _, err := insert.ExecContext(ctx, rows[i].Digest[:], encoded, now, slack); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t directoryTable) Close() error { return nil }
