package storecache

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// newNix makes a Nix store below a new directory, and returns that and what runs
// a program of Nix on it.
func newNix(t *testing.T) (root string, run func(program string, args ...string) string) {
	t.Helper()
	for _, program := range []string{"nix", "nix-store", "nix-instantiate"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP: %s is missing (apt-get install nix-bin)", program)
		}
	}
	root = t.TempDir()
	return root, func(program string, args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		cmd := exec.Command(program, args...)
		cmd.Stderr = &stderr
		cmd.Env = append(os.Environ(), "NIX_REMOTE=local?root="+root, "HOME="+root,
			"NIX_CONFIG=build-users-group =\nsandbox = false\nsubstitute = false\nexperimental-features = nix-command")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s %q: %v: %s", program, args, err, stderr.String())
		}
		return strings.TrimSpace(string(out))
	}
}
