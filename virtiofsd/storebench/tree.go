package storebench

import (
	"bufio"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	// filesPerDirectory is how many files a directory of a tree of small files
	// has.
	filesPerDirectory = 100
	// leastSize and mostSize bound the size of a small file, in bytes. The
	// logarithms of sizes are spread evenly between theirs, so that half of
	// the files are below 4 KiB, as in the output of a package.
	leastSize = 512
	mostSize  = 30 << 10
)

// SmallFiles makes a tree of files of 0.5 to 30 KiB at dir, two directories
// deep, and returns their bytes.
func SmallFiles(dir string, files int) (bytes int64, err error) {
	sizes := rand.New(rand.NewPCG(1, 1))
	content := rand.NewChaCha8([32]byte{1})
	buf := make([]byte, mostSize)
	for i := range files {
		n := i / filesPerDirectory
		sub := filepath.Join(dir, fmt.Sprint(n/10), fmt.Sprint(n%10))
		if i%filesPerDirectory == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return 0, err
			}
		}
		size := int(leastSize * math.Pow(mostSize/leastSize, sizes.Float64()))
		_, _ = content.Read(buf[:size]) // never fails
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprint(i)), buf[:size], 0o644); err != nil {
			return 0, err
		}
		bytes += int64(size)
	}
	return bytes, nil
}

// LargeFile makes a file of size bytes, a multiple of 1 MiB.
func LargeFile(path string, size int64) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	content := rand.NewChaCha8([32]byte{2})
	buf := make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = content.Read(buf) // never fails
		if _, err := w.Write(buf); err != nil {
			return err
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
