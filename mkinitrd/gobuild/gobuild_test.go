package gobuild

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// source makes a module with one program, which prints its embedded text.
func source(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":               "module storeboot\n\ngo 1.24\n",
		"go.sum":               "",
		"hello/main.go":        "package main\n\nimport _ \"embed\"\n\n//go:embed text\nvar text string\n\nfunc main() { print(text) }\n",
		"hello/text":           "hello",
		"hello/main_test.go":   "package main\n",
		"internal/part/doc.go": "package part\n",
	} {
		write(t, filepath.Join(dir, name), text)
	}
	return dir
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func builder(t *testing.T, source string) *Builder {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("SKIP: go is not in $PATH")
	}
	c, err := NewCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	return &Builder{Source: source, Cache: c, Arch: "amd64", Log: slog.New(slog.DiscardHandler)}
}

// must builds a program and returns its file, and the bytes.
func must(t *testing.T, b *Builder) (string, []byte) {
	t.Helper()
	file, err := b.Program(t.Context(), "hello")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return file, data
}

func TestProgram(t *testing.T) {
	src := source(t)
	b := builder(t, src)
	file, data := must(t, b)
	if bytes.Contains(data, []byte(src)) {
		t.Error("the program names the directory that it was built in")
	}
	// The same, elsewhere and later: the same bytes from another cache.
	if _, again := must(t, builder(t, source(t))); !bytes.Equal(data, again) {
		t.Error("the same source in another place gives other bytes")
	}
	// Nothing but what shapes the program is in its key.
	write(t, filepath.Join(src, "hello/main_test.go"), "package main // changed\n")
	write(t, filepath.Join(src, "other/file.go"), "package other\n")
	if same, _ := must(t, b); same != file {
		t.Error("what is not part of the program changed its key")
	}
	for _, change := range []struct{ name, text string }{
		{"hello/text", "good day"},
		{"internal/part/doc.go", "package part // changed\n"},
		{"go.sum", "\n"},
	} {
		write(t, filepath.Join(src, change.name), change.text)
		next, _ := must(t, b)
		if next == file {
			t.Errorf("a change of %s did not change the key", change.name)
		}
		file = next
	}
	sum := func(arch string) string {
		b.Arch = arch
		k, err := b.key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k.sum()
	}
	if sum("amd64") == sum("arm64") {
		t.Error("another architecture did not change the key")
	}
}

// TestWarm holds that a second build runs no compiler: there is none.
func TestWarm(t *testing.T) {
	b := builder(t, source(t))
	file, _ := must(t, b)
	tools, err := findToolchain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A go command that fails, with the same version beside it.
	root := t.TempDir()
	version, _, _ := strings.Cut(tools.version, "\nGOTOOLCHAIN=")
	write(t, filepath.Join(root, "VERSION"), version)
	write(t, filepath.Join(root, "bin/go"), "#!/bin/sh\nexit 99\n")
	if err := os.Chmod(filepath.Join(root, "bin/go"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", filepath.Join(root, "bin"))
	if again, _ := must(t, b); again != file {
		t.Errorf("got %s, want %s", again, file)
	}
	write(t, filepath.Join(b.Source, "hello/text"), "changed")
	if _, err := b.Program(t.Context(), "hello"); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("a broken compiler: error %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := b.Program(t.Context(), "hello"); !errors.Is(err, ErrNoGo) {
		t.Errorf("no compiler: error %v", err)
	}
}

func TestFailure(t *testing.T) {
	b := builder(t, source(t))
	write(t, filepath.Join(b.Source, "hello/main.go"), "package main\n\nfunc main() { undefined() }\n")
	_, err := b.Program(t.Context(), "hello")
	if err == nil || !strings.Contains(err.Error(), "undefined") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	if _, err := b.Program(t.Context(), "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such program: %v", err)
	}
	entries, err := os.ReadDir(b.Cache.dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != lockName {
		t.Errorf("a failed build left %v, %v", entries, err)
	}
}

func TestCache(t *testing.T) {
	c, err := NewCache(filepath.Join(t.TempDir(), "cache"))
	if err != nil {
		t.Fatal(err)
	}
	// Many at once build once.
	var wg sync.WaitGroup
	var mu sync.Mutex
	builds := 0
	for range 8 {
		wg.Go(func() {
			file, err := c.file(t.Context(), "key", "name", func(out string) error {
				mu.Lock()
				builds++
				mu.Unlock()
				return os.WriteFile(out, []byte("x"), 0o600)
			})
			if err != nil || filepath.Base(file) != "key-name" {
				t.Errorf("%s, %v", file, err)
			}
		})
	}
	wg.Wait()
	if builds != 1 {
		t.Errorf("%d builds", builds)
	}
	// What was not used for long goes when something comes.
	old := time.Now().Add(-unused - time.Hour)
	stale := filepath.Join(c.dir, "old-program")
	write(t, stale, "x")
	if err := os.Chtimes(stale, old, old); err != nil {
		t.Fatal(err)
	}
	put := func(key string) error {
		_, err := c.file(t.Context(), key, "name", func(out string) error { return os.WriteFile(out, nil, 0o600) })
		return err
	}
	used := filepath.Join(c.dir, "key-name")
	if err := errors.Join(os.Chtimes(used, old, old), put("key"), put("other")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); err == nil {
		t.Error("a program that nobody uses was kept")
	}
	if _, err := os.Stat(used); err != nil {
		t.Errorf("a program that is used was removed: %v", err)
	}
	// Who waits for the lock can give up.
	unlock, err := c.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("lock: %v", err)
	}
}

func TestFindSource(t *testing.T) {
	src := source(t)
	other := t.TempDir()
	write(t, filepath.Join(other, "go.mod"), "module other\n")
	t.Setenv(SourceVariable, "")
	if got, err := FindSource(src); err != nil || got != src {
		t.Errorf("given: %s, %v", got, err)
	}
	for _, bad := range []string{other, "/none"} {
		if _, err := FindSource(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	t.Chdir(filepath.Join(src, "hello"))
	if got, err := FindSource(""); err != nil || got != src {
		t.Errorf("from the working directory: %s, %v", got, err)
	}
	t.Chdir(other)
	if _, err := FindSource(""); !errors.Is(err, ErrNoSource) {
		t.Errorf("nowhere: %v", err)
	}
	t.Setenv(SourceVariable, src)
	if got, err := FindSource(""); err != nil || got != src {
		t.Errorf("from the environment: %s, %v", got, err)
	}
}

// TestCommands builds two of u-root's commands from the version in go.mod.
func TestCommands(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	src, err := FindSource(filepath.Join(here, "../.."))
	if err != nil {
		t.Fatal(err)
	}
	b := builder(t, src)
	file, err := b.Commands(t.Context(), []string{"seq", "basename", "seq"})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", st, err)
	}
	for command, want := range map[string]string{"seq 2": "1\n2\n", "basename /a/b": "b\n"} {
		f := strings.Fields(command)
		link := filepath.Join(t.TempDir(), f[0])
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(link, f[1:]...).CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("%s: %q, %v", command, out, err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, []byte(b.Cache.dir)) {
		t.Error("the program names the directory that it was built in")
	}
	again, err := b.Commands(t.Context(), []string{"basename", "seq"})
	if err != nil || again != file {
		t.Errorf("the same commands in another order: %s, %v", again, err)
	}
	if _, err := b.Commands(t.Context(), []string{"lss"}); err == nil || !strings.Contains(err.Error(), `"lss"`) || strings.Contains(err.Error(), "\n") {
		t.Errorf("no such command: %v", err)
	}
}
