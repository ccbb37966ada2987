package nested

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// DirVariable is the environment variable that tells a test program that it runs
// in a host; its value is the directory in which its programs are.
const DirVariable = "STOREBOOT_NESTED_DIR"

// CacheDir is the directory in that of [Test] with what its programs find in
// XDG_CACHE_HOME.
const CacheDir = "cache"

// Test runs this test program again, in a host, with the same arguments. dir
// is one made by [Dir]; the program finds it in DirVariable. It returns the
// program's exit status.
func Test(ctx context.Context, dir string, limit time.Duration) (int, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	program := filepath.Join(dir, "test")
	if err := copyFile(self, program); err != nil {
		return 0, err
	}
	here, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "cp -r %s /tmp/cache; cd %s || exit 1\n", quote(filepath.Join(dir, CacheDir)), quote(here))
	fmt.Fprintf(&b, "exec env -i PATH=%s HOME=%s XDG_CACHE_HOME=/tmp/cache XDG_CONFIG_HOME=/tmp/config LC_ALL=C.UTF-8 %s=%s",
		quote(os.Getenv("PATH")), quote(os.Getenv("HOME")), DirVariable, quote(dir))
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "STOREBOOT_") {
			b.WriteString(" " + quote(e))
		}
	}
	b.WriteString(" " + quote(program))
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile=") { // in a /tmp that the host does not have
			b.WriteString(" " + quote(a))
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("the tests in the nested host were not done after %v", limit))
	defer cancel()
	return Host{Kernel: Kernel(), Out: os.Stdout}.Run(ctx, b.String())
}
