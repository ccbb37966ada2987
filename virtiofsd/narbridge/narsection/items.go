package narsection

import (
	"context"
	"fmt"
	"iter"

	"storeboot/virtiofsd/castore"
)

// Item is an entry of the tree, or the end of a directory.
type Item struct {
	castore.Entry     // without a name for the root; at an end it is empty
	Depth         int // how many directories it is in
	End           bool
	// Contents is where in the NAR the contents of a file begin.
	Contents uint64
}

// Items yields the tree in the order of the NAR: a directory, its entries, its
// end.
func (v *View) Items(ctx context.Context) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		i := &items{View: v, yield: yield}
		if err := i.run(ctx); err != nil {
			yield(Item{}, fmt.Errorf("list tree: %w", err))
		}
	}
}

// items is one run through the tree.
type items struct {
	*View
	yield func(Item, error) bool
	pos   uint64 // where in the NAR we are
	open  [][]castore.Entry
}

func (i *items) run(ctx context.Context) error {
	i.pos = stringSize(len(magic))
	more, err := i.node(ctx, castore.Entry{Node: i.root})
	for more && err == nil && len(i.open) > 0 {
		top := &i.open[len(i.open)-1]
		if len(*top) == 0 {
			i.open = i.open[:len(i.open)-1]
			more = i.yield(Item{End: true, Depth: len(i.open)}, nil)
			i.pos += 16 // of the directory
			i.endEntry()
			continue
		}
		e := (*top)[0]
		*top = (*top)[1:]
		i.pos += entrySize - 16 + stringSize(len(e.Name)) // but for its ")"
		more, err = i.node(ctx, e)
	}
	return err
}

// node yields a node, whose beginning in the NAR is where we are.
func (i *items) node(ctx context.Context, e castore.Entry) (more bool, err error) {
	item := Item{Entry: e, Depth: len(i.open)}
	if e.Kind == castore.KindDirectory {
		dir, err := i.directory(ctx, e.Node)
		if err != nil {
			return false, err
		}
		more = i.yield(item, nil)
		i.pos += directorySize - 16 // but for its ")"
		i.open = append(i.open, dir.Entries())
		return more, nil
	}
	if e.Kind == castore.KindFile {
		item.Contents = i.pos + regularSize - 16
		if e.Executable {
			item.Contents += executableSize
		}
	}
	more = i.yield(item, nil)
	i.pos += i.nodeSize(e.Node)
	i.endEntry()
	return more, nil
}

func (i *items) endEntry() {
	if len(i.open) > 0 {
		i.pos += 16
	}
}
