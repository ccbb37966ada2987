package image

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sync/errgroup"

	"storeboot/mkinitrd/compress"
)

// Options say how an image is written; they are the same for all that is done
// with one image.
type Options struct {
	Codec compress.Codec
	Level int // 0 is the codec's default
	// Keep returns the file that build makes, or made before for the same key;
	// nil keeps nothing.
	Keep func(key string, build func(file string) error) (string, error)
}

// keepVersion changes when the same entries give other bytes.
const keepVersion = "2"

// Write writes the image to w, each segment compressed by itself. The bytes do
// not depend on the number of processors, which only decides how many segments
// are compressed at a time.
func (i *Image) Write(w io.Writer, c compress.Codec, level int) error {
	return i.WriteWith(w, Options{Codec: c, Level: level})
}

// WriteWith is [Image.Write] with all options.
func (i *Image) WriteWith(w io.Writer, o Options) error {
	out := &counter{w: w}
	if err := i.write(out, o); err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return nil
}

func (i *Image) write(out *counter, o Options) error {
	// What is compressed at once has to be held until its turn comes.
	ready := make([]func(io.Writer) error, len(i.Segments))
	compressed := 0
	for _, s := range i.Segments {
		if s.Archive == "" && !s.Raw {
			compressed++
		}
	}
	group := errgroup.Group{}
	group.SetLimit(runtime.GOMAXPROCS(0))
	done := make([]chan error, len(i.Segments))
	for n := range i.Segments {
		s := &i.Segments[n]
		switch {
		case s.Archive != "":
			ready[n] = s.copyArchive
		case s.Raw || o.Codec == compress.None:
			ready[n] = s.write
		case compressed == 1 && o.Keep == nil:
			ready[n] = func(w io.Writer) error { return s.compress(w, o) }
		}
	}
	defer func() { _ = group.Wait() }()
	started := 0
	start := func(upTo int) {
		for ; started < min(upTo, len(i.Segments)); started++ {
			if n := started; ready[n] == nil {
				done[n] = make(chan error, 1)
				group.Go(func() error {
					var err error
					ready[n], err = i.Segments[n].held(o)
					done[n] <- err
					return nil
				})
			}
		}
	}
	for n := range i.Segments {
		start(n + runtime.GOMAXPROCS(0))
		if done[n] != nil {
			if err := <-done[n]; err != nil {
				return err
			}
		}
		if err := ready[n](out); err != nil {
			return err
		}
		ready[n] = nil
		// The next segment may stand at multiples of 4 only; and the end of an
		// archive that was given may look like more to come: lz4 has no mark.
		pad := int(-out.n & (align - 1))
		if n < len(i.Segments)-1 && (i.Segments[n].Archive != "" || o.Codec == "lz4") {
			pad += align
		}
		if _, err := out.Write(make([]byte, pad)); err != nil {
			return err
		}
	}
	return nil
}

// align is the alignment of segments.
const align = 4

// held compresses the segment into memory, or finds it among what was kept, and
// returns what writes it.
func (s *Segment) held(o Options) (func(io.Writer) error, error) {
	if o.Keep == nil {
		var b bytes.Buffer
		if err := s.compress(&b, o); err != nil {
			return nil, err
		}
		return func(w io.Writer) error {
			_, err := w.Write(b.Bytes())
			return err
		}, nil
	}
	key, err := s.keyOf(o)
	if err != nil {
		return nil, err
	}
	file, err := o.Keep(key, func(file string) error {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := s.compress(f, o); err != nil {
			_ = f.Close()
			return err
		}
		return f.Close()
	})
	if err != nil {
		return nil, err
	}
	return func(w io.Writer) error { return copyFile(w, file) }, nil
}

// Key returns what is the same only for images that are written as the same
// bytes. It reads all that the image is made of, but compresses nothing.
func (i *Image) Key(o Options) (string, error) {
	h := sha256.New()
	for n := range i.Segments {
		key, err := i.Segments[n].keyOf(o)
		if err != nil {
			return "", fmt.Errorf("read what the image is made of: %w", err)
		}
		fmt.Fprintln(h, key)
	}
	return hex.EncodeToString(h.Sum(nil)[:20]), nil
}

// keyOf is the key of the segment's bytes, which is found once.
func (s *Segment) keyOf(o Options) (string, error) {
	if s.key != "" {
		return s.key, nil
	}
	h := sha256.New()
	var err error
	if s.Archive != "" {
		fmt.Fprintln(h, keepVersion, "archive")
		err = s.copyArchive(h)
	} else {
		codec, level := o.Codec, o.Level
		if s.Raw {
			codec, level = compress.None, 0
		}
		fmt.Fprintf(h, "%s %s %d %s\n", keepVersion, codec, level, codecVersion())
		err = s.write(h)
	}
	if err != nil {
		return "", err
	}
	s.key = hex.EncodeToString(h.Sum(nil)[:20])
	return s.key, nil
}

func (s *Segment) compress(w io.Writer, o Options) error {
	z, err := compress.NewWriter(w, o.Codec, o.Level)
	if err != nil {
		return err
	}
	if err := s.write(z); err != nil {
		return err
	}
	return z.Close()
}

func (s *Segment) copyArchive(w io.Writer) error { return copyFile(w, s.Archive) }

func copyFile(w io.Writer, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

// codecVersion is the version of the libraries that compress, as far as the
// program knows it.
func codecVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	versions := ""
	for _, d := range info.Deps {
		switch d.Path {
		case "github.com/klauspost/compress", "github.com/pierrec/lz4/v4", "github.com/ulikunitz/xz":
			versions += d.Path + " " + d.Version + " " + d.Sum + "\n"
		}
	}
	return versions
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
