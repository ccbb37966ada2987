package storecache

import (
	"context"
	"testing"

	"storeboot/virtiofsd/pathinfo/pathinfotest"
)

func TestLRU(t *testing.T) {
	if _, err := NewLRU(0); err == nil {
		t.Error("a capacity of 0 is taken")
	}
	s, err := NewLRU(2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background()
	has := func(name string) bool {
		_, err := s.Get(ctx, pathinfotest.Path(name).Hash)
		return err == nil
	}
	put(t, s, pathinfotest.Bare("a"), pathinfotest.Bare("b"))
	has("a") // so that b is the one to go
	put(t, s, pathinfotest.Bare("c"))
	if !has("a") || has("b") || !has("c") {
		t.Errorf("a, b, c: %v, %v, %v", has("a"), has("b"), has("c"))
	}
	put(t, s, pathinfotest.Bare("a"), pathinfotest.Bare("d"))
	if !has("a") || has("c") || !has("d") {
		t.Errorf("a, c, d: %v, %v, %v", has("a"), has("c"), has("d"))
	}
}
