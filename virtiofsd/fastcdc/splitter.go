package fastcdc

import "errors"

// Splitter is a writer that hands on what is written to it in chunks. It is
// for one goroutine. After an error of its receiver it refuses further use.
type Splitter struct {
	chunker *Chunker
	emit    func(chunk []byte) error
	buf     []byte // what is not yet cut, less than the longest chunk
	err     error
}

// NewSplitter makes a splitter that gives each chunk, which is never empty, to
// emit, in order. The chunk is valid until emit returns. buf is memory to use;
// it may be nil, and is best of twice the longest chunk.
func NewSplitter(chunker *Chunker, buf []byte, emit func(chunk []byte) error) *Splitter {
	return &Splitter{chunker: chunker, emit: emit, buf: buf[:0]}
}

// Write implements [io.Writer].
func (s *Splitter) Write(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	longest := s.chunker.sizes.Max
	for rest := p; ; {
		n := min(len(rest), 2*longest-len(s.buf))
		s.buf = append(s.buf, rest[:n]...)
		rest = rest[n:]
		start := 0
		for len(s.buf)-start >= longest {
			if s.err = s.cut(&start); s.err != nil {
				return 0, s.err
			}
		}
		if start > 0 {
			s.buf = s.buf[:copy(s.buf, s.buf[start:])]
		}
		if len(rest) == 0 {
			return len(p), nil
		}
	}
}

// cut hands on the chunk that begins at *start and moves *start behind it.
func (s *Splitter) cut(start *int) error {
	n := s.chunker.Cut(s.buf[*start:])
	chunk := s.buf[*start : *start+n : *start+n]
	*start += n
	return s.emit(chunk)
}

// Buffered is the number of bytes written that are in no chunk yet.
func (s *Splitter) Buffered() int { return len(s.buf) }

// Close ends the stream: what is left goes out in chunks. An empty stream has
// none. A second Close is an error.
func (s *Splitter) Close() error {
	if s.err != nil {
		return s.err
	}
	for start := 0; start < len(s.buf); {
		if s.err = s.cut(&start); s.err != nil {
			return s.err
		}
	}
	s.err = errors.New("split: closed already")
	return nil
}
