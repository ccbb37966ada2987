package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"storeboot/mkinitrd/bootcheck"
	"storeboot/mkinitrd/gobuild"
)

// checkVersion changes when a check says something else of the same image.
const checkVersion = "1"

// buildCheck checks an initrd while it is written: what is written to it is
// what a kernel would read. An image that was found good before, of the same
// inputs for the same kernel, is only held to be the same bytes.
type buildCheck struct {
	cache *gobuild.Cache
	key   string
	known *verdict // of an earlier check; nil: there was none
	sum   hash.Hash

	pipe *io.PipeWriter
	done chan struct{}
	list []bootcheck.Finding
	err  error
}

// verdict is what is kept of a check that found no error.
type verdict struct {
	Sum      string              `json:"sum"` // SHA-256 of the initrd
	Findings []bootcheck.Finding `json:"findings"`
}

// startCheck begins a check, for the kernel, of the image with that key; stop
// or finish ends it.
func startCheck(k *kernel, image string, cache *gobuild.Cache) (*buildCheck, error) {
	c := &buildCheck{cache: cache, sum: sha256.New()}
	var err error
	if c.key, err = checkKey(k, image); err != nil {
		return nil, err
	}
	if c.known = readVerdict(cache, c.key); c.known != nil {
		return c, nil
	}
	facts, err := findBootKernel(k.path, "", k.dir(), bootcheck.ConfigBeside)
	if err != nil {
		return nil, err
	}
	if facts.Release == "" {
		facts.Release, facts.Arch = k.release, k.arch
	}
	var r *io.PipeReader
	r, c.pipe = io.Pipe()
	c.done = make(chan struct{})
	go func() {
		defer close(c.done)
		c.list, _, c.err = checkImage(r, facts)
		// The writer is not to wait for who has seen enough.
		_, _ = io.Copy(io.Discard, r)
	}()
	return c, nil
}

// checkKey names all that a check depends on: the image, what is known of the
// kernel, and this program, which has the rules.
func checkKey(k *kernel, image string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s %s %q %q %q\n", checkVersion, image, k.path, k.release, k.arch)
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	st, err := os.Stat(exe)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%q %d %d\n", exe, st.Size(), st.ModTime().UnixNano())
	var files []string
	if k.path != "" {
		files = bootcheck.ConfigsBeside(k.path, k.release)
	}
	if dir := k.dir(); dir != "" {
		files = append(files, filepath.Join(dir, builtinList))
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		fmt.Fprintf(h, "%q %t %x\n", name, err == nil, sha256.Sum256(data))
	}
	return hex.EncodeToString(h.Sum(nil)[:20]), nil
}

const verdictName = "check"

func readVerdict(cache *gobuild.Cache, key string) *verdict {
	file, ok := cache.Find(key, verdictName)
	if !ok {
		return nil
	}
	data, err := os.ReadFile(file)
	v := new(verdict)
	if err != nil || json.Unmarshal(data, v) != nil {
		return nil // it was damaged: the check is made again
	}
	return v
}

// Write takes the next bytes of the initrd.
func (c *buildCheck) Write(p []byte) (int, error) {
	_, _ = c.sum.Write(p)
	if c.pipe == nil {
		return len(p), nil
	}
	return c.pipe.Write(p)
}

// stop ends a check whose image was not written whole; it may be called twice,
// and after finish.
func (c *buildCheck) stop() {
	if c.pipe != nil {
		_ = c.pipe.CloseWithError(errors.New("the build failed"))
		<-c.done
	}
}

// finish waits for the check's outcome: an error if the image would not boot.
func (c *buildCheck) finish(log *slog.Logger) error {
	v := verdict{Sum: hex.EncodeToString(c.sum.Sum(nil))}
	if c.known != nil {
		if v.Sum != c.known.Sum {
			return fmt.Errorf("the image is not the one that the same input gave before: a file of the cache is damaged: remove %s", c.cache.Dir())
		}
		return c.report(c.known.Findings, log)
	}
	_ = c.pipe.Close()
	<-c.done
	if c.err != nil {
		return fmt.Errorf("check the image: %w", c.err)
	}
	if err := c.report(c.list, log); err != nil {
		return err
	}
	v.Findings = c.list
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = c.cache.Keep(c.key, verdictName, func(file string) error { return os.WriteFile(file, data, 0o600) })
	return err
}

func (c *buildCheck) report(list []bootcheck.Finding, log *slog.Logger) error {
	for _, f := range list {
		if f.Level == bootcheck.Warning {
			log.Warn("check", "path", f.Path, "finding", f.Text)
		}
	}
	if bootcheck.Worst(list) == bootcheck.Error {
		return fmt.Errorf("the image %s; --no-check writes it all the same", summary(list))
	}
	return nil
}
