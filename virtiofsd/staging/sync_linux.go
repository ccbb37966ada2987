package staging

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FewSyncs is up to how many files [Sync] writes to the disk one by one with
// fsync rather than all at once with syncfs, which also writes what other
// programs have written to the same file system.
const FewSyncs = 8

// Sync writes files and directories of the store to the disk: one by one if
// they are few, else all of the file system. What is not there any more is
// passed over.
func Sync(store string, paths []string) error {
	if len(paths) > FewSyncs {
		return SyncAll(store)
	}
	for _, path := range paths {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// SyncAll writes all of the file system of the store to the disk.
func SyncAll(store string) error {
	f, err := os.Open(store)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "syncfs", Path: store, Err: err}
	}
	return nil
}
