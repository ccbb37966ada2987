package narbridge

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/narbridge/narsection"
)

// maxListed is how many entries a tree may have to be listed: one directory may
// be in it many times.
const maxListed = 1 << 22

var errNotUTF8 = errors.New("a name in it is not UTF-8, which JSON needs")

// getListing gives the listing of a store path, as Nix writes it with
// write-nar-listing:
//
//	{"version":1,"root":NODE}
//	NODE = {"type":"regular","size":N,"executable":true,"narOffset":N}
//	     | {"type":"symlink","target":"..."}
//	     | {"type":"directory","entries":{"NAME":NODE,...}}
//
// where executable is left out if false, and narOffset is where in the NAR the
// contents begin.
func (s *Server) getListing(w *response, r *http.Request, hash storepath.Hash) error {
	p, err := s.pathInfo(r, hash)
	if err != nil {
		return err
	}
	if p.Node.Kind == castore.KindDirectory && p.Node.Size > maxListed {
		return refuse(http.StatusNotFound, "%s has %d entries: there is no listing of more than %d", p.StorePath, p.Node.Size, maxListed)
	}
	v, err := s.view(r.Context(), p.Node)
	if err != nil {
		return err
	}
	// Once for the length, and for the error of a name, once to send it.
	var length counter
	if err := writeListing(r.Context(), &length, v); errors.Is(err, errNotUTF8) {
		return refuse(http.StatusNotFound, "there is no listing of %s: %w", p.StorePath, err)
	} else if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", strconv.Quote("ls-"+nixbase32.EncodeToString(p.NarSHA256[:])))
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Length", strconv.FormatInt(int64(length), 10))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	return writeListing(r.Context(), w, v)
}

// counter is a writer that counts.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// writeListing writes the listing of a tree.
func writeListing(ctx context.Context, out io.Writer, v *narsection.View) error {
	w := bufio.NewWriterSize(out, 64<<10)
	_, _ = w.WriteString(`{"version":1,"root":`) // bufio keeps the first error
	first := true
	for item, err := range v.Items(ctx) {
		if err != nil {
			return err
		}
		if item.End {
			_, _ = w.WriteString("}}")
			first = false
			continue
		}
		if item.Depth > 0 {
			if !first {
				_ = w.WriteByte(',')
			}
			if err := writeString(w, item.Name); err != nil {
				return err
			}
			_ = w.WriteByte(':')
		}
		first = item.Kind == castore.KindDirectory
		if err := writeNode(w, item); err != nil {
			return err
		}
	}
	_ = w.WriteByte('}')
	return w.Flush()
}

// writeNode writes a node; of a directory what is before its entries.
func writeNode(w *bufio.Writer, item narsection.Item) error {
	switch item.Kind {
	case castore.KindDirectory:
		_, err := w.WriteString(`{"type":"directory","entries":{`)
		return err
	case castore.KindSymlink:
		_, _ = w.WriteString(`{"type":"symlink","target":`)
		if err := writeString(w, item.Target); err != nil {
			return err
		}
		return w.WriteByte('}')
	}
	_, _ = fmt.Fprintf(w, `{"type":"regular","size":%d`, item.Size)
	if item.Executable {
		_, _ = w.WriteString(`,"executable":true`)
	}
	_, err := fmt.Fprintf(w, `,"narOffset":%d}`, item.Contents)
	return err
}

func writeString(w *bufio.Writer, s string) error {
	if !utf8.ValidString(s) {
		return errNotUTF8
	}
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}
