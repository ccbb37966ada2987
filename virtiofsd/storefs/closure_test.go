package storefs

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/pathinfo"
	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

func (w *world) path(name string) storepath.StorePath {
	w.t.Helper()
	p, err := storepath.Parse(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return p
}

// refer makes one store path refer to others.
func (w *world) refer(from string, to ...string) {
	w.t.Helper()
	info, err := w.store.PathInfos.Get(context.Background(), w.path(from).Hash)
	if err != nil {
		w.t.Fatal(err)
	}
	changed := *info
	for _, p := range to {
		changed.References = append(changed.References, w.path(p))
	}
	if _, err := w.store.PathInfos.Put(context.Background(), &changed); err != nil {
		w.t.Fatal(err)
	}
}

// TestClosure holds that a guest with a view of closures sees these and nothing
// else, whatever it guesses.
func TestClosure(t *testing.T) {
	w := newWorld(t, memoryStore())
	a := w.add("a", tree{"f": "A"})
	b := w.add("b", tree{"f": "B"})
	c := w.add("c", tree{"f": "C"})
	other := w.add("other", tree{"secret": "S"})
	w.refer(a, b, a)
	w.refer(b, c, a) // a cycle
	secret := w.find(other + "/secret").NodeId
	g := w.view(View{Closure: []storepath.StorePath{w.path(a)}})
	want := []string{a, b, c}
	slices.Sort(want)
	listed := g.list(rootID, 600)
	var got []string
	for name := range listed {
		got = append(got, name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("the root lists %v, want %v", got, want)
	}
	for _, p := range want {
		if text := g.readAll(g.find(p+"/f").NodeId, 10); text == "" {
			t.Errorf("%s: nothing to read", p)
		}
		if e, before := g.find(p), w.find(p); e != before {
			t.Errorf("%s: %+v, in the whole store %+v", p, e, before)
		}
	}
	for _, name := range []string{other, "none", a + "x"} {
		e, err := g.lookup(rootID, name)
		if err != nil || e.NodeId != 0 || e.EntryTimeout() < forever {
			t.Errorf("%s: inode %d, valid for %v: %v", name, e.NodeId, e.EntryTimeout(), err)
		}
	}
	// Who guesses the number of what another sees gets nothing.
	if _, err := g.fuse.Call(vt.FuseRead, secret, readIn(0, 10), 10); !errors.Is(err, syscall.ESTALE) {
		t.Errorf("a file of another closure: %v", err)
	}
	if got := w.readAll(secret, 10); got != "S" {
		t.Errorf("the whole store: %q", got)
	}
	none := w.path("00000000000000000000000000000000-none")
	if _, err := w.fs.View(t.Context(), View{Closure: []storepath.StorePath{none}}); !errors.Is(err, pathinfo.ErrNotFound) {
		t.Errorf("a closure that is not there: %v", err)
	}
}

// TestState holds that a guest which was saved can be loaded where it sees the
// same, and nowhere else.
func TestState(t *testing.T) {
	w := newWorld(t, memoryStore())
	a, b := w.path(w.add("a", tree{"f": "A"})), w.path(w.add("b", tree{"f": "B"}))
	sessions := []*Session{w.session}
	for _, p := range []storepath.StorePath{a, b} {
		sessions = append(sessions, w.view(View{Closure: []storepath.StorePath{p}}).session)
	}
	for i, from := range sessions {
		saved, err := from.saveState()
		if err != nil {
			t.Fatal(err)
		}
		for j, to := range sessions {
			if err := to.loadState(saved); (err == nil) != (i == j) {
				t.Errorf("state of %d loaded into %d: %v", i, j, err)
			}
		}
	}
	for _, bad := range []string{"", "{", `{"numbers":2}`} {
		if err := w.session.loadState([]byte(bad)); err == nil {
			t.Errorf("state %q is taken", bad)
		}
	}
}
