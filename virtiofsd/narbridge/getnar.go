package narbridge

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/narbridge/narsection"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/narinfo"
)

const (
	narType = "application/x-nix-nar"
	// forEver is for what a URL that names the contents stands for.
	forEver = "max-age=31536000, immutable"
	// maxNode is the longest node of a URL before base64, in bytes.
	maxNode = 4096
	// minCompressed is the shortest NAR that is compressed on its way, in bytes.
	minCompressed = 1 << 10
)

// headNAR says whether a narinfo for this file would be taken.
func (s *Server) headNAR(w *response, r *http.Request, name string) error {
	n, err := parseNARName(name)
	if err != nil {
		return err
	}
	release, err := gc.Hold(r.Context(), s.store.Blobs)
	if err != nil {
		return err
	}
	defer release()
	u, err := s.o.Uploads.ByFile(r.Context(), n.file)
	size := u.FileSize
	if errors.Is(err, uploads.ErrNotFound) && n.codec == nil {
		u, err = s.o.Uploads.ByNAR(r.Context(), n.file)
		size = u.NarSize
	}
	there := false
	if err == nil {
		there, err = s.present(r.Context(), u)
	}
	switch {
	case errors.Is(err, uploads.ErrNotFound) || err == nil && !there:
		return refuse(http.StatusNotFound, "the NAR is not here")
	case err != nil:
		return err
	}
	if time.Since(u.Used) > time.Minute { // the client will rely on it
		if err := s.o.Uploads.Put(r.Context(), u); err != nil {
			return err
		}
	}
	w.Header().Set("Content-Type", narType)
	w.Header().Set("Content-Length", strconv.FormatUint(size, 10))
	w.WriteHeader(http.StatusOK)
	return nil
}

// getNAR gives an uploaded NAR that is asked for by its own hash.
func (s *Server) getNAR(w *response, r *http.Request, name string) error {
	missing := refuse(http.StatusNotFound, "there is no NAR %q: the narinfo of a store path says where its NAR is", name)
	n, err := parseNARName(name)
	if err != nil || n.codec != nil {
		return missing
	}
	u, err := s.o.Uploads.ByNAR(r.Context(), n.file)
	if errors.Is(err, uploads.ErrNotFound) {
		return missing
	}
	if err != nil {
		return err
	}
	v, err := s.view(r.Context(), u.Node)
	if errors.Is(err, castore.ErrNotFound) {
		return missing
	}
	if err != nil {
		return err
	}
	return s.serveNAR(w, r, v, nixbase32.EncodeToString(n.file[:]))
}

// getCastoreNAR gives the NAR of a tree.
func (s *Server) getCastoreNAR(w *response, r *http.Request, base64 string) error {
	size, err := strconv.ParseUint(r.URL.Query().Get("narsize"), 10, 63)
	if err != nil {
		return refuse(http.StatusBadRequest, "the URL needs narsize, the length of the NAR: take it from the narinfo")
	}
	if len(base64) > (maxNode*8+5)/6 {
		return refuse(http.StatusBadRequest, "the node of the URL is longer than %d bytes", maxNode)
	}
	node, err := narinfo.ParseNode(base64)
	if err != nil {
		return refuse(http.StatusNotFound, "%w", err)
	}
	v, err := s.view(r.Context(), node)
	if errors.Is(err, castore.ErrNotFound) {
		return refuse(http.StatusNotFound, "the tree of the URL is not in the store")
	}
	if err != nil {
		return err
	}
	if v.Size() != size {
		return refuse(http.StatusBadRequest, "narsize %d is not the length of the NAR, %d", size, v.Size())
	}
	sum := sha256.Sum256([]byte(base64))
	return s.serveNAR(w, r, v, hex.EncodeToString(sum[:16]))
}

// serveNAR gives a NAR, or the ranges of it that are asked for.
func (s *Server) serveNAR(w *response, r *http.Request, v *narsection.View, tag string) error {
	h := w.Header()
	h.Set("Content-Type", narType)
	h.Set("Cache-Control", forEver)
	h.Set("Etag", strconv.Quote(tag))
	if s.o.Compress != CompressNever {
		h.Set("Vary", "Accept-Encoding")
	}
	if r.Method == http.MethodGet && r.Header.Get("Range") == "" && v.Size() >= minCompressed && s.compresses(r) {
		h.Set("Etag", strconv.Quote(tag+"-zstd"))
		return s.compressNAR(w, r, v)
	}
	f := &narFile{ctx: r.Context(), view: v}
	http.ServeContent(w, r, "", time.Time{}, f)
	return f.err
}

// compresses says whether the answer is to be compressed.
func (s *Server) compresses(r *http.Request) bool {
	takes, others := false, false
	for _, part := range strings.Split(strings.Join(r.Header.Values("Accept-Encoding"), ","), ",") {
		name, parameter, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), ";")
		if q := strings.TrimSpace(parameter); q == "q=0" || strings.HasPrefix(q, "q=0.0") || name == "" {
			continue
		}
		if strings.TrimSpace(name) == "zstd" {
			takes = true
		} else if name != "identity" {
			others = true
		}
	}
	if !takes || s.o.Compress != CompressAuto {
		return takes && s.o.Compress == CompressAlways
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	near := err != nil || net.ParseIP(host).IsLoopback() // a unix socket has no port
	return !near || !others
}

// compressNAR sends a NAR compressed.
func (s *Server) compressNAR(w *response, r *http.Request, v *narsection.View) error {
	h := w.Header()
	h.Set("Content-Encoding", "zstd")
	if match := r.Header.Get("If-None-Match"); match != "" && strings.Contains(match, h.Get("Etag")) {
		h.Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	w.WriteHeader(http.StatusOK)
	e, _ := s.zstd.Get().(*zstd.Encoder)
	if e == nil {
		var err error
		if e, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true)); err != nil {
			return err
		}
	}
	e.Reset(w)
	// The encoder would read a file in small pieces if it were given one.
	err := v.WriteRange(r.Context(), struct{ io.Writer }{e}, 0, v.Size())
	if err == nil {
		err = e.Close()
	}
	e.Reset(nil)
	s.zstd.Put(e)
	if err != nil {
		return fmt.Errorf("compress NAR: %w", err)
	}
	return nil
}
