package narbridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"

	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castorenar"
	"storeboot/virtiofsd/pathinfo"
)

// check refuses a path info that is not well formed, whose content address or a
// signature does not hold, or whose references are not in the store.
func (s *Server) check(ctx context.Context, p *pathinfo.PathInfo) error {
	if err := p.Check(); err != nil {
		return refuse(http.StatusBadRequest, "%w", err)
	}
	if err := p.CheckCA(); err != nil {
		return refuse(http.StatusBadRequest, "%w", err)
	}
	proven, err := s.checkContents(ctx, p)
	if err != nil {
		return err
	}
	if err := s.checkSignatures(p, proven); err != nil {
		return err
	}
	return s.checkReferences(ctx, p)
}

// checkContents compares the content address with the contents. proven says
// whether the store path follows from them: only that of a tree that refers to
// itself cannot be told.
func (s *Server) checkContents(ctx context.Context, p *pathinfo.PathInfo) (proven bool, err error) {
	if p.CA == nil {
		return false, nil
	}
	if p.CA.Type == pathinfo.CANARSHA256 { // which CheckCA has compared
		for _, r := range p.References {
			if r == p.StorePath {
				return false, nil
			}
		}
		return true, nil
	}
	h, flat := p.CA.Type.NewHash()
	if h == nil {
		return false, refuse(http.StatusBadRequest, "content address of %s: unknown kind", p.StorePath)
	}
	if flat && (p.Node.Kind != castore.KindFile || p.Node.Executable) {
		return false, refuse(http.StatusBadRequest, "content address %s of %s: it is that of a file that is not executable, which the NAR does not hold", p.CA, p.StorePath)
	}
	if flat {
		err = s.copyBlob(ctx, h, p.Node.Digest)
	} else {
		err = castorenar.Write(ctx, h, p.Node, s.store.Blobs, s.store.Directories)
	}
	if err != nil {
		return false, err
	}
	if !bytes.Equal(h.Sum(nil), p.CA.Digest) {
		return false, refuse(http.StatusBadRequest, "content address %s of %s: the contents have another hash", p.CA, p.StorePath)
	}
	return h.Size() >= sha256.Size, nil // others can be made to fit
}

func (s *Server) copyBlob(ctx context.Context, w io.Writer, d castore.Digest) error {
	b, err := s.store.Blobs.Open(ctx, d)
	if err != nil {
		return err
	}
	defer b.Close()
	n, err := io.Copy(w, io.NewSectionReader(b, 0, b.Size()))
	if err == nil && n != b.Size() {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read blob %s: %w", d, err)
	}
	return nil
}

// checkSignatures refuses signatures that say they are by a trusted key and are
// not, and, if that is asked for, a path that neither has one nor follows from
// its contents.
func (s *Server) checkSignatures(p *pathinfo.PathInfo, proven bool) error {
	fingerprint := p.Fingerprint()
	for _, sig := range p.Signatures {
		named, holds := false, false
		for _, k := range s.o.TrustedKeys {
			named = named || k.Name() == sig.Name
			holds = holds || k.Verify(fingerprint, sig)
		}
		if named && !holds {
			return refuse(http.StatusBadRequest, "the signature of %s by %s does not hold", p.StorePath, sig.Name)
		}
	}
	if !s.o.RequireSignature || proven {
		return nil
	}
	err := p.CheckSignature(s.o.TrustedKeys)
	if err != nil {
		return refuse(http.StatusForbidden, "%w: sign it with 'nix store sign', or upload with secret-key=FILE in the URL of the store", err)
	}
	return nil
}

// checkReferences refuses references to what is not in the store, but for the
// path itself.
func (s *Server) checkReferences(ctx context.Context, p *pathinfo.PathInfo) error {
	if s.o.AnyReferences {
		return nil
	}
	for _, r := range p.References {
		if r == p.StorePath {
			continue
		}
		have, err := s.store.PathInfos.Get(ctx, r.Hash)
		if err == nil && have.StorePath != r {
			err = pathinfo.ErrNotFound
		}
		if errors.Is(err, pathinfo.ErrNotFound) {
			return refuse(http.StatusBadRequest, "%s refers to %s, which is not in the store: put it first", p.StorePath, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
