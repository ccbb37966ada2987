package unpack_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/unpack"
	"storeboot/mkinitrd/unpack/unpacktest"
)

// program stands for an init; it packs, and does not fit into one block.
var program = strings.Repeat("#!/bin/sh is what it begins with, or \x7fELF\n", 100)

func run(t testing.TB, image string, k unpack.Kernel) *unpack.Result {
	t.Helper()
	spool := new(unpack.Spool)
	t.Cleanup(func() { _ = spool.Close() })
	// One byte at a time: nothing may depend on how it is read.
	r, err := unpack.Run(iotest.OneByteReader(strings.NewReader(image)), k, spool)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestCases(t *testing.T) {
	for _, c := range unpacktest.Cases(program) {
		t.Run(c.Name, func(t *testing.T) {
			r := run(t, c.Image, unpack.Kernel{})
			if r.Message != c.Message {
				t.Errorf("message %q (%s), want %q", r.Message, r.Cause, c.Message)
			}
			n := r.Tree.Lookup("/init")
			if boots := n != nil && n.Type() == newc.TypeRegular && n.Mode&0o111 != 0 && !n.Cut && sum(t, r, n) == sha256.Sum256([]byte(program)); boots != c.Boots {
				t.Errorf("boots %v, want %v", boots, c.Boots)
			}
			var all []string
			for _, l := range r.Losses {
				all = append(all, l.Path+": "+l.Why)
			}
			got := strings.Join(all, "\n")
			for _, want := range c.Losses {
				if !strings.Contains(got, want) {
					t.Errorf("losses %q lack %q", got, want)
				}
			}
			if len(c.Losses) == 0 && got != "" {
				t.Errorf("losses %q, want none", got)
			}
		})
	}
}

func sum(t *testing.T, r *unpack.Result, n *unpack.Node) [32]byte {
	t.Helper()
	data, err := io.ReadAll(r.Tree.Open(n))
	if err != nil || int64(len(data)) != n.Size {
		t.Fatalf("%d of %d bytes, %v", len(data), n.Size, err)
	}
	return sha256.Sum256(data)
}

func TestLackingCodec(t *testing.T) {
	for _, c := range unpacktest.Cases(program) {
		if c.Name != "zstd" {
			continue
		}
		r := run(t, c.Image, unpack.Kernel{Lacks: []compress.Codec{compress.Zstd}})
		if r.Message != "compression method zstd not configured" || r.Tree.Lookup("/init") != nil {
			t.Errorf("message %q", r.Message)
		}
	}
	if r := run(t, "\x89LZO\x00\r\n\x1a\n", unpack.Kernel{}); r.Unsure == "" {
		t.Error("lzo: the model is sure")
	}
}

// TestReadError holds that an error of reading is not taken for the image's.
func TestReadError(t *testing.T) {
	bad := errors.New("disk is on fire")
	for _, c := range unpacktest.Cases(program)[:7] {
		half := c.Image[:len(c.Image)/2]
		spool := new(unpack.Spool)
		_, err := unpack.Run(io.MultiReader(strings.NewReader(half), iotest.ErrReader(bad)), unpack.Kernel{}, spool)
		if !errors.Is(err, bad) && !strings.Contains(c.Name, "CRC64") {
			t.Errorf("%s: error %v", c.Name, err)
		}
	}
}

func TestSpool(t *testing.T) {
	if testing.Short() {
		t.Skip("SKIP: writes 70 MiB")
	}
	s := new(unpack.Spool)
	defer s.Close()
	block := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for range 70 {
		if _, err := s.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	for _, off := range []int64{0, 63<<20 - 3, 64<<20 - 5, 64 << 20, 70<<20 - 7} {
		got := make([]byte, 7)
		if _, err := s.ReadAt(got, off); err != nil {
			t.Fatal(err)
		}
		if want := []byte(strings.Repeat("0123456789abcdef", 2))[off%16:][:7]; !bytes.Equal(got, want) {
			t.Errorf("at %d: %q, want %q", off, got, want)
		}
	}
}

func FuzzRun(f *testing.F) {
	for _, c := range unpacktest.Cases("#!/bin/sh\n" + strings.Repeat("text ", 20)) {
		if run(f, c.Image, unpack.Kernel{}); len(c.Image) < 20000 {
			f.Add([]byte(c.Image))
		}
	}
	f.Fuzz(func(t *testing.T, image []byte) {
		spool := new(unpack.Spool)
		defer spool.Close()
		r, err := unpack.Run(bytes.NewReader(image), unpack.Kernel{}, spool)
		if err != nil {
			return
		}
		for p, n := range r.Tree.All() {
			if n.Type() == newc.TypeRegular && n.Size < 1<<20 {
				if _, err := io.ReadAll(r.Tree.Open(n)); err != nil {
					t.Errorf("%s: %v", p, err)
				}
			}
			r.Tree.Lookup(p)
		}
	})
}
