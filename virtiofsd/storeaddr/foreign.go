package storeaddr

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// redbMagic is what a redb file begins with (redb, docs/design.md).
const redbMagic = "redb\x1a\x0a\xa9\x0d\x0a"

// refuseForeign refuses a path that holds a database of sled or redb.
func refuseForeign(path string) error {
	format, err := foreignFormat(path)
	if err != nil {
		return err
	}
	if format == "" {
		return nil
	}
	return fmt.Errorf("%s is a %s database, which only the programs of tvix and snix can read: serve it with their 'tvix-store daemon' or 'snix-store daemon', give the address of that daemon (grpc+http://[::1]:8000) as the three service addresses of 'virtiofsd copy --all --to-store DIR', and use DIR or another path from then on", path, format)
}

// foreignFormat is the format of the database at path, if it is one of those.
func foreignFormat(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", err
	case info.IsDir():
		// A sled database is a directory with these files (sled 0.34).
		for _, name := range []string{"conf", "db"} {
			if info, err := os.Stat(filepath.Join(path, name)); err != nil || !info.Mode().IsRegular() {
				return "", nil
			}
		}
		return "sled", nil
	case !info.Mode().IsRegular():
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	begin := make([]byte, len(redbMagic))
	if _, err := io.ReadFull(f, begin); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			err = nil
		}
		return "", err
	}
	if bytes.Equal(begin, []byte(redbMagic)) {
		return "redb", nil
	}
	return "", nil
}
