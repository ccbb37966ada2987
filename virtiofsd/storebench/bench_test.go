package storebench

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dirEnv names the directory that the benchmarks use instead of a temporary one.
const dirEnv = "STOREBOOT_BENCH_DIR"

// keep returns the directory for what the next run can use again.
func keep(b *testing.B) string {
	dir := os.Getenv(dirEnv)
	if dir == "" {
		return b.TempDir()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		b.Fatal(err)
	}
	return dir
}

// scratch returns an empty directory that is removed at the end.
func scratch(b *testing.B) string {
	dir, err := os.MkdirTemp(keep(b), "run")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		// What Nix stores is read-only.
		_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(path, 0o755)
			}
			return nil
		})
		if err := os.RemoveAll(dir); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// build builds virtiofsd as it is installed and returns its path.
func build(b *testing.B) string {
	program := filepath.Join(b.TempDir(), "virtiofsd")
	cmd := exec.Command("go", "build", "-o", program, "storeboot/virtiofsd")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("build virtiofsd: %v: %s", err, out)
	}
	return program
}

// run runs a program to its end, which has to be a success.
func run(b *testing.B, program string, args ...string) {
	b.Helper()
	if out, err := command(program, args...).CombinedOutput(); err != nil {
		b.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
}

// command is a program with the environment of the benchmarks: its stores are
// those that args name.
func command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "BLOB_SERVICE_ADDR=", "DIRECTORY_SERVICE_ADDR=", "PATH_INFO_SERVICE_ADDR=",
		"NIX_CONFIG=build-users-group =\nsandbox = false\nsubstitute = false")
	return cmd
}

// settle writes what the one before left in memory to the disk, so that the
// next one does not.
func settle(b *testing.B, dir string) {
	f, err := os.Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		b.Fatal(err)
	}
}

// copyFloor copies from, a tree or a file, to a new directory below dir and
// writes that to the disk.
func copyFloor(b *testing.B, from, dir string) {
	to, err := os.MkdirTemp(dir, "copy")
	if err != nil {
		b.Fatal(err)
	}
	run(b, "cp", "-r", from, to)
	settle(b, to)
}

// stopwatch collects the times of contestants that run by turns.
type stopwatch map[string][]time.Duration

// time measures f.
func (s stopwatch) time(name string, f func()) {
	begin := time.Now()
	f()
	s[name] = append(s[name], time.Since(begin))
}

// median is the middle time of a contestant, in seconds; 0 if it did not run.
func (s stopwatch) median(name string) float64 {
	times := slices.Sorted(slices.Values(s[name]))
	if len(times) == 0 {
		return 0
	}
	return times[len(times)/2].Seconds()
}

// report reports the median of ours and, as X/ours, how much of the speed of
// each of the others that is: 1 is as fast as X, 2 is twice as fast.
func (s stopwatch) report(b *testing.B, ours string, others ...string) {
	b.ReportMetric(0, "ns/op") // that of all contestants together
	b.ReportMetric(s.median(ours), ours+"-s")
	for _, name := range others {
		if len(s[name]) > 0 {
			b.ReportMetric(s.median(name), name+"-s")
			b.ReportMetric(s.median(name)/s.median(ours), name+"/"+ours)
		}
	}
}

// readAll hands the contents of all files of a tree, or of one file, to f.
func readAll(root string, buf []byte, begin func(), f func([]byte)) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		begin()
		for {
			n, err := file.Read(buf)
			f(buf[:n])
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}
