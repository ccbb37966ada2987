package castore

import (
	"context"
	"errors"
	"fmt"
	"iter"
)

var errWriterClosed = errors.New("write after close or abort")

// DirectoryTable is the little that [NewDirectoryService] needs of a database:
// encoded directories by digest. All methods may be called by several
// goroutines at once.
type DirectoryTable interface {
	// Get returns the encoded directory, or ErrNotFound.
	Get(ctx context.Context, d Digest) ([]byte, error)
	// Put stores all rows or none, so that they survive a power loss. A row
	// that is there already is left as it is.
	Put(ctx context.Context, rows []DirectoryRow) error
	// Close frees what the table holds.
	Close() error
}

// DirectoryRow is a directory as a [DirectoryTable] holds it.
type DirectoryRow struct {
	Digest  Digest
	Encoded []byte
}

// NewDirectoryService makes a directory service of a table. It checks all that
// is put, and the digest of all that it gets from the table.
func NewDirectoryService(table DirectoryTable) DirectoryService {
	return &directories{table}
}

type directories struct{ table DirectoryTable }

func (s *directories) Close() error { return s.table.Close() }

func (s *directories) Get(ctx context.Context, d Digest) (*Directory, error) {
	if d == EmptyBlob { // needs no row: its encoding is no bytes
		return ParseDirectory(nil)
	}
	b, err := s.table.Get(ctx, d)
	if err != nil {
		return nil, fmt.Errorf("get directory %s: %w", d, err)
	}
	dir, err := ParseDirectory(b)
	if err != nil {
		return nil, fmt.Errorf("get directory %s: %w", d, err)
	}
	if dir.Digest() != d {
		return nil, fmt.Errorf("get directory %s: what is stored has the digest %s: the store is damaged", d, dir.Digest())
	}
	return dir, nil
}

func (s *directories) Closure(ctx context.Context, root Digest) iter.Seq2[*Directory, error] {
	return func(yield func(*Directory, error) bool) {
		seen := map[Digest]bool{root: true}
		for queue := []Digest{root}; len(queue) > 0; queue = queue[1:] {
			dir, err := s.Get(ctx, queue[0])
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(dir, nil) {
				return
			}
			for _, e := range dir.Entries() {
				if e.Kind == KindDirectory && !seen[e.Digest] {
					seen[e.Digest] = true
					queue = append(queue, e.Digest)
				}
			}
		}
	}
}

func (s *directories) Put(ctx context.Context) (DirectoryPutter, error) {
	return &directoryPutter{ctx: ctx, table: s.table, known: map[Digest]*putState{}}, ctx.Err()
}

// directoryPutter collects an upload and stores it at its end, in one step: a
// tree is in the table whole or not at all.
type directoryPutter struct {
	ctx     context.Context
	table   DirectoryTable // nil once closed or aborted
	known   map[Digest]*putState
	rows    []DirectoryRow
	orphans int // directories that nothing put so far refers to
	last    Digest
	err     error // the first one; the upload is of no more use
}

type putState struct {
	dir      *Directory
	referred bool
}

func (p *directoryPutter) Put(d *Directory) (Digest, error) {
	if p.table == nil {
		return Digest{}, errWriterClosed
	}
	if p.err != nil {
		return Digest{}, p.err
	}
	if err := p.add(d); err != nil {
		p.err = fmt.Errorf("put directory %s: %w", d.Digest(), err)
		return Digest{}, p.err
	}
	return d.Digest(), nil
}

func (p *directoryPutter) add(d *Directory) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	p.last = d.Digest()
	if p.known[d.Digest()] != nil {
		return nil
	}
	for _, e := range d.Entries() {
		if e.Kind != KindDirectory {
			continue
		}
		child := p.known[e.Digest]
		if child == nil {
			return fmt.Errorf("its child %q (%s) was not put before it in this upload", e.Name, e.Digest)
		}
		if !child.dir.HasSize(e.Size) {
			return fmt.Errorf("its child %q is said to have the size %d and has %d", e.Name, e.Size, child.dir.Size())
		}
		if !child.referred {
			child.referred = true
			p.orphans--
		}
	}
	p.known[d.Digest()] = &putState{dir: d}
	p.orphans++
	p.rows = append(p.rows, DirectoryRow{d.Digest(), d.Encoded()})
	return nil
}

func (p *directoryPutter) Close() (Digest, error) {
	if p.table == nil {
		return Digest{}, errWriterClosed
	}
	table := p.table
	p.table = nil
	switch {
	case p.err != nil:
		return Digest{}, p.err
	case len(p.rows) == 0:
		return Digest{}, errors.New("put directories: nothing was put")
	case p.orphans != 1:
		return Digest{}, fmt.Errorf("put directories: %d roots instead of one", p.orphans)
	case p.known[p.last].referred:
		return Digest{}, errors.New("put directories: the last directory is not the root of the others")
	}
	if err := table.Put(p.ctx, p.rows); err != nil {
		return Digest{}, fmt.Errorf("put directories: %w", err)
	}
	return p.last, nil
}

func (p *directoryPutter) Abort() { p.table, p.rows, p.known = nil, nil, nil }
