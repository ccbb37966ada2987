package ingest

import (
	"crypto/sha256"
	"hash"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/nar"
)

// assembler hashes the NAR and makes directories of what the storers stored.
type assembler struct {
	putter castore.DirectoryPutter
	nar    *nar.Writer
	sum    hashSize
	open   []frame // directories, outermost first
	root   castore.Node
	file   *file // the root, if it is one
}

// frame is a directory that is not at its end.
type frame struct {
	name    string
	entries []castore.Entry
	files   []*file // of the entries; nil for what is no file
}

// hashSize is a SHA-256 that counts.
type hashSize struct {
	hash.Hash
	size uint64
}

func (h *hashSize) Write(p []byte) (int, error) {
	h.size += uint64(len(p))
	return h.Hash.Write(p)
}

func newAssembler(putter castore.DirectoryPutter) *assembler {
	a := &assembler{putter: putter, sum: hashSize{Hash: sha256.New()}}
	a.nar = nar.NewWriter(&a.sum)
	return a
}

// run takes events until there are no more.
func (a *assembler) run(p *pipe) error {
	for {
		e, ok, err := receive(p.ctx, p.events)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := a.step(p, e); err != nil {
			return err
		}
	}
	if a.file != nil {
		if err := a.wait(p, a.file); err != nil {
			return err
		}
		a.root.Digest = a.file.digest
	}
	return a.nar.Close()
}

func (a *assembler) result() Result {
	return Result{Node: a.root, NarSize: a.sum.size, NarSHA256: [sha256.Size]byte(a.sum.Sum(nil))}
}

func (a *assembler) step(p *pipe, e event) error {
	switch e.kind {
	case data:
		_, err := a.nar.Write(e.chunk.buf)
		e.chunk.release()
		return err
	case endDirectory:
		return a.endDirectory(p)
	}
	if len(a.open) > 0 {
		if err := a.nar.Entry(e.name); err != nil {
			return err
		}
	}
	switch e.kind {
	case beginDirectory:
		a.open = append(a.open, frame{name: e.name})
		return a.nar.Directory()
	case symlink:
		a.add(e.name, castore.Node{Kind: castore.KindSymlink, Target: e.target}, nil)
		return a.nar.Symlink(e.target)
	default:
		a.add(e.name, castore.Node{Kind: castore.KindFile, Size: e.file.size, Executable: e.file.executable}, e.file)
		return a.nar.File(e.file.size, e.file.executable)
	}
}

// add adds a node to the open directory; f is its file, if it is one.
func (a *assembler) add(name string, n castore.Node, f *file) {
	if len(a.open) == 0 {
		a.root, a.file = n, f
		return
	}
	top := &a.open[len(a.open)-1]
	top.entries = append(top.entries, castore.Entry{Name: name, Node: n})
	top.files = append(top.files, f)
}

func (a *assembler) endDirectory(p *pipe) error {
	top := a.open[len(a.open)-1]
	a.open = a.open[:len(a.open)-1]
	for i, f := range top.files {
		if f == nil {
			continue
		}
		if err := a.wait(p, f); err != nil {
			return err
		}
		top.entries[i].Digest = f.digest
	}
	d, err := castore.NewDirectory(top.entries)
	if err != nil {
		return err
	}
	if _, err := a.putter.Put(d); err != nil {
		return err
	}
	a.add(top.name, d.Node(), nil)
	return a.nar.EndDirectory()
}

// wait waits until f is stored.
func (a *assembler) wait(p *pipe, f *file) error {
	_, _, err := receive(p.ctx, f.done)
	return err
}
