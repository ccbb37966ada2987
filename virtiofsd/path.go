package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

// maxSymlinks is how many symlinks are followed on the way to one path, as on
// Linux.
const maxSymlinks = 40

// found is a path of the store and what is there.
type found struct {
	path string // absolute; symlinks on the way are followed
	node castore.Node
	info *pathinfo.PathInfo // of a store path itself, else nil
}

// getPathInfo looks a store path up.
func getPathInfo(ctx context.Context, store *storeaddr.Store, p storepath.StorePath) (*pathinfo.PathInfo, error) {
	info, err := store.PathInfos.Get(ctx, p.Hash)
	if errors.Is(err, pathinfo.ErrNotFound) || err == nil && info.StorePath != p {
		return nil, fmt.Errorf("store path %s is not in the store: import it with 'virtiofsd import' or 'virtiofsd copy --from-nix'", p.Absolute())
	}
	return info, err
}

// find finds a path below /nix/store in the store. Symlinks on the way to it
// are followed, and with follow also it itself; none leads out of the store.
func find(ctx context.Context, store *storeaddr.Store, path string, follow bool) (found, error) {
	if _, _, err := storepath.ParseAbsolute(path); err != nil {
		return found{}, &cli.UsageError{Err: err}
	}
	todo := strings.Split(strings.TrimPrefix(path, storepath.StoreDir+"/"), "/")
	var at []found // the way from the store path to where we are
	symlinks := 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			if len(at) == 0 {
				return found{}, fmt.Errorf("%s leads out of %s", path, storepath.StoreDir)
			}
			at = at[:len(at)-1]
			continue
		}
		next, err := step(ctx, store, at, name)
		if err != nil {
			return found{}, err
		}
		if next.node.Kind != castore.KindSymlink || len(todo) == 0 && !follow {
			at = append(at, next)
			continue
		}
		if symlinks++; symlinks > maxSymlinks {
			return found{}, fmt.Errorf("%s: more than %d symlinks follow one another", path, maxSymlinks)
		}
		target := next.node.Target
		if strings.HasPrefix(target, "/") {
			rest, ok := strings.CutPrefix(target, storepath.StoreDir+"/")
			if !ok {
				return found{}, fmt.Errorf("%s is a symlink to %s, which is not in the store", next.path, target)
			}
			target, at = rest, nil
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	if len(at) == 0 {
		return found{}, fmt.Errorf("%s is the store itself: list it with 'virtiofsd list'", path)
	}
	return at[len(at)-1], nil
}

// step goes from the last of at, or from the store, to its entry name.
func step(ctx context.Context, store *storeaddr.Store, at []found, name string) (found, error) {
	if len(at) == 0 {
		p, err := storepath.Parse(name)
		if err != nil {
			return found{}, err
		}
		info, err := getPathInfo(ctx, store, p)
		if err != nil {
			return found{}, err
		}
		return found{p.Absolute(), info.Node, info}, nil
	}
	parent := at[len(at)-1]
	path := parent.path + "/" + name
	if parent.node.Kind != castore.KindDirectory {
		return found{}, fmt.Errorf("%s: %s is a %s, not a directory", path, parent.path, parent.node.Kind)
	}
	dir, err := store.Directories.Get(ctx, parent.node.Digest)
	if err != nil {
		return found{}, fmt.Errorf("%s: %w", parent.path, err)
	}
	node, ok := dir.Lookup(name)
	if !ok {
		return found{}, fmt.Errorf("%s is not in the store: %s has no entry %q", path, parent.path, name)
	}
	return found{path: path, node: node}, nil
}

// printable is s, quoted if it would disturb a terminal or the reader's lines.
func printable(s string) string {
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}
