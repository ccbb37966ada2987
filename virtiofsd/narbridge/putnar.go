package narbridge

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/narcodec"
)

// narName is FILEHASH.nar[.COMPRESSION].
type narName struct {
	file  [sha256.Size]byte
	codec *narcodec.Codec // nil for none, or one that the beginning of the file tells
}

// parseNARName parses the name of a NAR. The status of a name that is none is
// 401, as that of nar-bridge.
func parseNARName(s string) (narName, error) {
	base, suffix, ok := strings.Cut(s, ".nar")
	raw, err := nixbase32.DecodeString(base)
	if !ok || err != nil || len(raw) != sha256.Size {
		return narName{}, refuse(http.StatusUnauthorized, "%q does not name a NAR: want HASH.nar with a SHA-256 in nixbase32", s)
	}
	c, ok := narcodec.BySuffix(suffix)
	if !ok {
		return narName{}, refuse(http.StatusUnauthorized, "the compression %q is not known here: .zst, .xz, .gz, .bz2, .br, .lz4, .lzip, .lzma and none are", suffix)
	}
	return narName{[sha256.Size]byte(raw), c}, nil
}

// putNAR takes a NAR in.
func (s *Server) putNAR(w *response, r *http.Request, name string) error {
	if err := s.authorize(w, r); err != nil {
		return err
	}
	n, err := parseNARName(name)
	if err != nil {
		return err
	}
	if r.ContentLength > s.o.MaxNARSize {
		return refuse(http.StatusRequestEntityTooLarge, "a NAR of %d bytes is too large: at most %d are taken", r.ContentLength, s.o.MaxNARSize)
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	case <-r.Context().Done():
		return r.Context().Err()
	}
	release, err := gc.Hold(r.Context(), s.store.Blobs)
	if err != nil {
		return err
	}
	defer release()
	u, err := s.takeNAR(r.Context(), newBody(w, r), r, n)
	if err != nil {
		return err
	}
	if err := s.o.Uploads.Put(r.Context(), u); err != nil {
		return err
	}
	s.metrics.nars.Inc()
	s.metrics.narBytes.Add(float64(u.NarSize))
	w.WriteHeader(http.StatusOK)
	return nil
}

// takeNAR stores the tree of a NAR, which is what its name says.
func (s *Server) takeNAR(ctx context.Context, b *body, r *http.Request, n narName) (uploads.Upload, error) {
	u := uploads.Upload{FileSHA256: n.file}
	decoded, closeContent, err := decodeContent(r, b)
	if err != nil {
		return u, narFailed(b, err)
	}
	defer closeContent()
	file := bufio.NewReaderSize(decoded, 64<<10)
	if n.codec == nil {
		n.codec = narcodec.ByMagic(file)
	}
	f := &hashedFile{r: file}
	in := io.Reader(f)
	if n.codec != nil {
		f.sum = sha256.New() // of an uncompressed NAR it is computed anyway
		unpacked, err := n.codec.NewReader(f)
		if err != nil {
			return u, narFailed(b, err)
		}
		defer unpacked.Close()
		in = unpacked
	}
	in = &limited{r: in, max: s.o.MaxNARSize, maxExpansion: s.o.MaxExpansion, packed: func() int64 { return b.n }}
	result, err := ingest.NAR(ctx, markedBlobs{s.store.Blobs}, markedDirectories{s.store.Directories}, in, nil)
	if err == nil {
		err = f.atEnd()
	}
	if err != nil {
		return u, narFailed(b, err)
	}
	got := result.NarSHA256
	if f.sum != nil {
		f.sum.Sum(got[:0])
	}
	if got != n.file {
		return u, refuse(http.StatusBadRequest, "the file has the hash %s and not that of its name", nixbase32.EncodeToString(got[:]))
	}
	u.FileSize, u.NarSHA256, u.NarSize, u.Node = uint64(f.n), result.NarSHA256, result.NarSize, result.Node
	return u, nil
}

// hashedFile is the file that is put, whose hash is in its name.
type hashedFile struct {
	r   io.Reader
	n   int64
	sum hash.Hash // nil: not wanted
}

func (f *hashedFile) Read(p []byte) (int, error) {
	n, err := f.r.Read(p)
	f.n += int64(n)
	if f.sum != nil {
		f.sum.Write(p[:n])
	}
	return n, err
}

// atEnd is an error if there is more of the file.
func (f *hashedFile) atEnd() error {
	switch n, err := io.ReadFull(f.r, make([]byte, 1)); {
	case n > 0:
		return errors.New("there is something behind the NAR")
	case err == io.EOF:
		return nil
	default:
		return err
	}
}

// narFailed is the answer to a NAR that was not taken in: it is the client's
// fault, unless the store's.
func narFailed(b *body, err error) error {
	switch {
	case b.err != nil:
		return bodyFailed(b.err)
	case isFault(err), errors.Is(err, context.Canceled), errors.As(err, new(*refusal)):
		return err
	case errors.Is(err, errTooLarge):
		return refuse(http.StatusRequestEntityTooLarge, "%w", err)
	}
	return refuse(http.StatusBadRequest, "the NAR cannot be read: %w", err)
}

// bodyFailed is the answer to a body that did not come whole.
func bodyFailed(err error) error {
	var timeout net.Error
	if errors.Is(err, errSlow) || errors.As(err, &timeout) && timeout.Timeout() {
		return refuse(http.StatusRequestTimeout, "%w", errSlow)
	}
	return refuse(http.StatusBadRequest, "the body did not come whole: %w", err)
}
