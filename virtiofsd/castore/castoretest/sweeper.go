package castoretest

import (
	"context"
	"math"
	"testing"
	"time"

	"storeboot/virtiofsd/castore"
)

// TestSweeper checks what a service promises that can list and remove what it
// holds. put stores the content number i, which may be there already, flushed;
// use is put, or another way to find it there before storing it again; has says
// whether it is there; ageAll makes all that is held look a day older.
func TestSweeper(t *testing.T, s castore.Sweeper, put func(i int) castore.Digest, use, has func(castore.Digest) bool, ageAll func()) {
	t.Helper()
	ctx := context.Background()
	const n = 30
	want := map[castore.Digest]bool{}
	for i := range n {
		want[put(i)] = true
	}
	list := func() (items []castore.Item) {
		t.Helper()
		for item, err := range s.Items(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			items = append(items, item)
		}
		return items
	}
	items := list()
	for _, item := range items {
		if !want[item.Digest] || item.Size <= 0 || time.Since(item.Used).Abs() > 10*time.Minute {
			t.Errorf("%+v is listed", item)
		}
		delete(want, item.Digest)
	}
	if len(items) != n || len(want) != 0 {
		t.Fatalf("%d are listed, %d are missing", len(items), len(want))
	}
	remove := func(items []castore.Item, before time.Time) int {
		t.Helper()
		removed, err := s.Remove(ctx, items, before)
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range removed {
			if has(item.Digest) {
				t.Errorf("%s was removed and is there", item.Digest)
			}
		}
		return len(removed)
	}
	hourAgo := func() time.Time { return time.Now().Add(-time.Hour) }
	if k := remove(items, hourAgo()); k != 0 {
		t.Errorf("%d young ones were removed", k)
	}
	ageAll()
	if !use(items[0].Digest) || !has(items[1].Digest) {
		t.Error("what is there is not found")
	}
	put(n) // a new one, which is not asked for
	if k := remove(items[:10], hourAgo()); k != 9 {
		t.Errorf("%d of 10 were removed, of which one was used", k)
	}
	if !has(items[0].Digest) {
		t.Error("what was used was removed")
	}
	if k := remove(items[:10], time.Unix(math.MaxInt32*1000, 0)); k != 1 {
		t.Errorf("%d of the one that was left were removed", k)
	}
	if k := remove(items[:10], time.Unix(math.MaxInt32*1000, 0)); k != 0 {
		t.Errorf("%d were removed that are gone", k)
	}
	if k := len(list()); k != n+1-10 {
		t.Errorf("%d are left", k)
	}
	if use(items[0].Digest) {
		t.Error("what was removed is found")
	}
	for i := range n { // all of it can be stored again
		put(i)
	}
	if k := len(list()); k != n+1 {
		t.Errorf("%d are there at the end", k)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for _, err := range s.Items(canceled) {
		if err == nil {
			t.Error("Items goes on after the end of its context")
		}
		break
	}
}
