package bigtablestore

import (
	"context"
	"errors"

	"storeboot/virtiofsd/castore"
)

// OpenDirectories opens the directories at an address. No request is made.
func OpenDirectories(ctx context.Context, url string) (castore.DirectoryService, error) {
	t, err := open(ctx, url)
	if err != nil {
		return nil, err
	}
	return castore.NewDirectoryService(directoryTable{t}), nil
}

// directoryTable is the table of directories.
type directoryTable struct{ *table }

func (t directoryTable) Get(ctx context.Context, d castore.Digest) ([]byte, error) {
	value, err := t.get(ctx, d.Hex())
	if errors.Is(err, errNoRow) {
		return nil, castore.ErrNotFound
	}
	return value, err
}

// Put implements [castore.DirectoryTable]: not all rows or none, but none before
// those that it refers to.
func (t directoryTable) Put(ctx context.Context, rows []castore.DirectoryRow) error {
	if err := t.writable(); err != nil {
		return err
	}
	levels, err := byHeight(rows)
	if err != nil {
		return err
	}
	for _, level := range levels {
		for len(level) > 0 {
			n := min(len(level), batchRows)
			absent, err := t.missing(ctx, level[:n])
			if err != nil {
				return err
			}
			if err := t.put(ctx, absent); err != nil {
				return err
			}
			level = level[n:]
		}
	}
	return nil
}

// byHeight sorts the rows of an upload by their heights: the first level refers
// to nothing, each further one to those before it alone.
func byHeight(rows []castore.DirectoryRow) ([][]row, error) {
	heights := make(map[castore.Digest]int, len(rows))
	var levels [][]row
	for _, r := range rows { // children come before parents
		if err := checkValue("directory "+r.Digest.String(), r.Encoded); err != nil {
			return nil, err
		}
		dir, err := castore.ParseDirectory(r.Encoded)
		if err != nil {
			return nil, err
		}
		height := 0
		for _, e := range dir.Entries() {
			if e.Kind == castore.KindDirectory {
				height = max(height, heights[e.Digest]+1)
			}
		}
		heights[r.Digest] = height
		for len(levels) <= height {
			levels = append(levels, nil)
		}
		levels[height] = append(levels[height], row{r.Digest.Hex(), r.Encoded})
	}
	return levels, nil
}
