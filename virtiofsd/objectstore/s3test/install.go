package s3test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// installTimeout bounds the fetching and building of the program.
const installTimeout = 8 * time.Minute

// install returns the path of the program, which is built once into a directory
// of the user's cache.
func install() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "storeboot-tests", "versitygw-"+version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	binary := filepath.Join(dir, "versitygw")
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil { // other tests may build it now
		return "", err
	}
	switch _, err := os.Stat(binary); {
	case err == nil:
		return binary, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), installTimeout)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", program+"@"+version)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOBIN="+filepath.Join(dir, "new"), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install %s@%s: %w\n%s", program, version, err, tail(out))
	}
	return binary, os.Rename(filepath.Join(dir, "new", "versitygw"), binary)
}

func tail(out []byte) []byte { return out[max(0, len(out)-1000):] }
