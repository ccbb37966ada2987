package narbridge

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/nix-community/go-nix/pkg/nixbase32"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/gc"
	"storeboot/virtiofsd/narbridge/uploads"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// putNARInfo gives an uploaded NAR its store path.
func (s *Server) putNARInfo(w *response, r *http.Request, hash storepath.Hash) error {
	if err := s.authorize(w, r); err != nil {
		return err
	}
	n, err := readNARInfo(w, r)
	if err != nil {
		return err
	}
	if n.StorePath.Hash != hash {
		return refuse(http.StatusBadRequest, "the narinfo is that of %s and not of %s", n.StorePath, hash)
	}
	release, err := gc.Hold(r.Context(), s.store.Blobs)
	if err != nil {
		return err
	}
	defer release()
	old, err := s.known(r.Context(), hash)
	if err != nil {
		return err
	}
	p, err := s.toPathInfo(r.Context(), n, old)
	if err != nil {
		return err
	}
	if err := s.check(r.Context(), p); err != nil {
		return err
	}
	if err := s.put(r.Context(), p); err != nil {
		return err
	}
	s.metrics.paths.Inc()
	w.WriteHeader(http.StatusOK)
	return nil
}

// readNARInfo reads the body of a request.
func readNARInfo(w *response, r *http.Request) (*narinfo.NarInfo, error) {
	b := newBody(w, r)
	decoded, closeContent, err := decodeContent(r, b)
	var text []byte
	if err == nil {
		text, err = io.ReadAll(io.LimitReader(decoded, narinfo.MaxSize+1))
		closeContent()
	}
	switch {
	case b.err != nil:
		return nil, bodyFailed(b.err)
	case errors.As(err, new(*refusal)):
		return nil, err
	case err != nil:
		return nil, refuse(http.StatusBadRequest, "the narinfo cannot be read: %w", err)
	case len(text) > narinfo.MaxSize:
		return nil, refuse(http.StatusBadRequest, "the narinfo is longer than %d bytes", narinfo.MaxSize)
	case !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0:
		return nil, refuse(http.StatusBadRequest, "the narinfo is not UTF-8 text")
	}
	n, err := narinfo.Parse(text)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%w", err)
	}
	return n, nil
}

// known is what the store has under a hash, or nil.
func (s *Server) known(ctx context.Context, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.store.PathInfos.Get(ctx, hash)
	if errors.Is(err, pathinfo.ErrNotFound) {
		return nil, nil
	}
	return p, err
}

// toPathInfo finds the tree of a narinfo: that of an uploaded NAR, or what the
// path holds already, which Nix relies on to add signatures.
func (s *Server) toPathInfo(ctx context.Context, n *narinfo.NarInfo, old *pathinfo.PathInfo) (*pathinfo.PathInfo, error) {
	if old != nil && old.StorePath != n.StorePath {
		return nil, refuse(http.StatusConflict, "the store has %s, whose hash is that of %s", old.StorePath, n.StorePath)
	}
	if old != nil && old.NarSHA256 != n.NarHash {
		return nil, refuse(http.StatusConflict, "the store has %s with other contents, NAR hash %s: remove it first", old.StorePath, nixbase32.EncodeToString(old.NarSHA256[:]))
	}
	u, err := s.upload(ctx, n)
	if errors.Is(err, uploads.ErrNotFound) && old != nil && (n.FileHash == nil || *n.FileHash == n.NarHash) {
		u = uploads.Upload{FileSHA256: old.NarSHA256, FileSize: old.NarSize, NarSHA256: old.NarSHA256, NarSize: old.NarSize, Node: old.Node}
	} else if errors.Is(err, uploads.ErrNotFound) {
		return nil, refuse(http.StatusBadRequest, "the NAR of %s was not uploaded here, or too long ago: put it first", n.StorePath)
	} else if err != nil {
		return nil, err
	}
	switch {
	case u.NarSHA256 != n.NarHash:
		return nil, refuse(http.StatusBadRequest, "NarHash of %s: the uploaded NAR has the hash %s", n.StorePath, nixbase32.EncodeToString(u.NarSHA256[:]))
	case u.NarSize != n.NarSize:
		return nil, refuse(http.StatusBadRequest, "NarSize of %s: the uploaded NAR has %d bytes and not %d", n.StorePath, u.NarSize, n.NarSize)
	case n.FileSize != 0 && n.FileSize != u.FileSize && (n.FileHash != nil || n.FileSize != u.NarSize):
		return nil, refuse(http.StatusBadRequest, "FileSize of %s: the uploaded file has %d bytes and not %d", n.StorePath, u.FileSize, n.FileSize)
	}
	there, err := s.present(ctx, u)
	if err != nil {
		return nil, err
	}
	if !there {
		if err := s.o.Uploads.Forget(ctx, u.NarSHA256); err != nil {
			return nil, err
		}
		return nil, refuse(http.StatusBadRequest, "the NAR of %s is no longer in the store, which was collected: put it again", n.StorePath)
	}
	p := n.PathInfo(u.Node)
	if old != nil {
		p.Signatures = merge(old.Signatures, p.Signatures)
	}
	return p, nil
}

// upload finds the upload that a narinfo speaks of.
func (s *Server) upload(ctx context.Context, n *narinfo.NarInfo) (uploads.Upload, error) {
	if n.FileHash == nil || *n.FileHash == n.NarHash {
		return s.o.Uploads.ByNAR(ctx, n.NarHash)
	}
	return s.o.Uploads.ByFile(ctx, *n.FileHash)
}

// merge is a with what is in b alone.
func merge(a, b []pathinfo.Signature) []pathinfo.Signature {
	all := slices.Clone(a)
	for _, sig := range b {
		if !slices.Contains(all, sig) {
			all = append(all, sig)
		}
	}
	return all
}

// put signs and stores a path info.
func (s *Server) put(ctx context.Context, p *pathinfo.PathInfo) error {
	s.putting.Lock()
	defer s.putting.Unlock()
	old, err := s.known(ctx, p.StorePath.Hash)
	if err != nil {
		return err
	}
	if old != nil { // it may have come since
		if old.StorePath != p.StorePath || old.NarSHA256 != p.NarSHA256 {
			return refuse(http.StatusConflict, "the store has %s with other contents: remove it first", old.StorePath)
		}
		p.Signatures = merge(old.Signatures, p.Signatures)
	}
	p.Signatures = merge(p.Signatures, s.signatures(p))
	_, err = s.store.PathInfos.Put(ctx, p)
	return err
}

// signatures are those of our own keys.
func (s *Server) signatures(p *pathinfo.PathInfo) []pathinfo.Signature {
	var list []pathinfo.Signature
	if p.NarSize == 0 {
		return nil // Nix would not accept them
	}
	for _, key := range s.o.SigningKeys {
		list = append(list, key.Sign(p.Fingerprint()))
	}
	return list
}
