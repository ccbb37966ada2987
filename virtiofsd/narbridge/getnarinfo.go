package narbridge

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"time"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// getNARInfo gives the narinfo of a store path. It is not for ever: signatures
// may be added.
func (s *Server) getNARInfo(w *response, r *http.Request, hash storepath.Hash) error {
	p, err := s.pathInfo(r, hash)
	if err != nil {
		return err
	}
	n := narinfo.FromPathInfo(p, narinfo.CastoreURL(narinfo.SnixCastore, p.Node, p.NarSize))
	n.FileHash = nil // as nar-bridge: the hash of an uncompressed file is NarHash
	n.Signatures = merge(n.Signatures, s.signatures(p))
	text := n.Marshal()
	sum := sha256.Sum256(text)
	w.Header().Set("Content-Type", narinfo.ContentType)
	w.Header().Set("Cache-Control", "no-cache") // ask whether the ETag is still right
	w.Header().Set("Etag", strconv.Quote(hex.EncodeToString(sum[:16])))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	return nil
}

// pathInfo is the path info that a request is about.
func (s *Server) pathInfo(r *http.Request, hash storepath.Hash) (*pathinfo.PathInfo, error) {
	p, err := s.store.PathInfos.Get(r.Context(), hash)
	if errors.Is(err, pathinfo.ErrNotFound) {
		return nil, refuse(http.StatusNotFound, "no store path with the hash %s is in the store", hash)
	}
	return p, err
}
