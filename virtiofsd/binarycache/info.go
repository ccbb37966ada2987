package binarycache

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"storeboot/internal/storepath"
)

const (
	infoFile = "nix-cache-info"
	// maxInfo is the longest nix-cache-info, in bytes; one has about 60.
	maxInfo = 64 << 10
	// defaultPriority is that of a cache that names none, as in Nix.
	defaultPriority = 50
)

// Info is what a cache says of itself.
type Info struct {
	// Priority is the place of the cache among others, the lowest first; that
	// of the address counts more.
	Priority int
	// WantMassQuery says that the cache can be asked for many paths.
	WantMassQuery bool
}

// Info asks the cache once what it is. One without nix-cache-info has the
// defaults; one for another store directory is an error.
func (c *Cache) Info(ctx context.Context) (Info, error) {
	c.mu.Lock()
	known := c.info
	c.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	text, err := c.get(ctx, infoFile, maxInfo)
	if errors.Is(err, ErrNotFound) {
		text, err = nil, nil
	}
	if err != nil {
		return Info{}, err
	}
	info, err := parseInfo(string(text))
	if err != nil {
		return Info{}, fmt.Errorf("binary cache %s: %s: %w", c, infoFile, err)
	}
	if p := c.address.Priority; p != nil {
		info.Priority = *p
	}
	c.mu.Lock()
	c.info = &info
	c.mu.Unlock()
	return info, nil
}

// parseInfo parses a nix-cache-info. Unknown keys are passed over, as in Nix.
func parseInfo(text string) (Info, error) {
	info := Info{Priority: defaultPriority}
	number := 0
	for line := range strings.Lines(text) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return Info{}, fmt.Errorf("line %d is not of the form KEY: VALUE", number)
		}
		value = strings.TrimSpace(value)
		switch key {
		case "StoreDir":
			if value != storepath.StoreDir {
				return Info{}, fmt.Errorf("the cache is for the store directory %q, not %s", value, storepath.StoreDir)
			}
		case "WantMassQuery":
			info.WantMassQuery = value == "1"
		case "Priority":
			n, err := strconv.ParseUint(value, 10, 31)
			if err != nil {
				return Info{}, fmt.Errorf("line %d: priority %q is not a number", number, value)
			}
			info.Priority = int(n)
		}
	}
	return info, nil
}

// Init writes a nix-cache-info, unless the cache has one, whose store directory
// has to be ours then.
func (c *Cache) Init(ctx context.Context) error {
	there, err := c.exists(ctx, infoFile)
	if err != nil {
		return err
	}
	if there {
		_, err := c.Info(ctx)
		return err
	}
	return c.put(ctx, infoFile, "text/x-nix-cache-info", []byte("StoreDir: "+storepath.StoreDir+"\nWantMassQuery: 1\nPriority: 40\n"))
}
