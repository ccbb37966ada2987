package narbridge

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/narinfo"
)

// maxDropped is how much of a body is read that is dropped, in bytes.
const maxDropped = 64 << 20

// route finds what answers a request.
func (s *Server) route(r *http.Request) route {
	path, reads := r.URL.Path, r.Method == http.MethodGet || r.Method == http.MethodHead
	writes := r.Method == http.MethodPut
	name, isNAR := strings.CutPrefix(path, "/nar/")
	kind, node, isCastore := strings.Cut(name, "/")
	isCastore = isCastore && isNAR && (kind == narinfo.SnixCastore || kind == narinfo.TvixCastore)
	base, isInfo := strings.CutSuffix(strings.TrimPrefix(path, "/"), ".narinfo")
	listed, isListing := strings.CutSuffix(strings.TrimPrefix(path, "/"), ".ls")
	none := route{"none", func(*response, *http.Request) error {
		return refuse(http.StatusNotFound, "there is nothing at %q", path)
	}}
	switch {
	case path == "/":
		return only(reads, "root", s.getRoot)
	case path == "/nix-cache-info":
		return only(reads, "cache-info", s.getCacheInfo)
	case path == "/metrics":
		return only(reads, "metrics", s.getMetrics)
	case isCastore:
		return only(reads, "castore-nar", func(w *response, r *http.Request) error { return s.getCastoreNAR(w, r, node) })
	case isNAR && r.Method == http.MethodHead:
		return route{"nar", func(w *response, r *http.Request) error { return s.headNAR(w, r, name) }}
	case isNAR && writes:
		return route{"nar", func(w *response, r *http.Request) error { return s.putNAR(w, r, name) }}
	case isNAR:
		return only(reads, "nar", func(w *response, r *http.Request) error { return s.getNAR(w, r, name) })
	case strings.HasPrefix(path, "/log/") || strings.HasPrefix(path, "/debuginfo/") || strings.HasPrefix(path, "/realisations/"):
		return route{"none", func(*response, *http.Request) error {
			return refuse(http.StatusNotFound, "this cache keeps store paths alone: no build logs, debug information and realisations")
		}}
	case isInfo || isListing:
		if isListing {
			base = listed
		}
		hash, err := storepath.ParseHash(base)
		switch {
		case err != nil:
			return none
		case isListing && writes:
			return route{"listing", s.putListing}
		case isListing:
			return only(reads, "listing", func(w *response, r *http.Request) error { return s.getListing(w, r, hash) })
		case writes:
			return route{"narinfo", func(w *response, r *http.Request) error { return s.putNARInfo(w, r, hash) }}
		}
		return only(reads, "narinfo", func(w *response, r *http.Request) error { return s.getNARInfo(w, r, hash) })
	}
	return none
}

// only is a route for methods that it has.
func only(has bool, name string, answer func(*response, *http.Request) error) route {
	if has {
		return route{name, answer}
	}
	return route{name, func(w *response, r *http.Request) error {
		w.Header().Set("Allow", "GET, HEAD, PUT")
		return refuse(http.StatusMethodNotAllowed, "%s is of no use here", r.Method)
	}}
}

func (s *Server) getRoot(w *response, r *http.Request) error {
	return text(w, r, "text/plain; charset=utf-8", "Hello from nar-bridge")
}

func (s *Server) getCacheInfo(w *response, r *http.Request) error {
	mass := 1
	if s.o.NoMassQuery {
		mass = 0
	}
	return text(w, r, "text/x-nix-cache-info", fmt.Sprintf("StoreDir: %s\nWantMassQuery: %d\nPriority: %d\n", storepath.StoreDir, mass, s.o.Priority))
}

func (s *Server) getMetrics(w *response, r *http.Request) error {
	s.metrics.handler.ServeHTTP(w, r)
	return nil
}

// putListing drops a listing that Nix makes if it is told to: we make our own.
func (s *Server) putListing(w *response, r *http.Request) error {
	if err := s.authorize(w, r); err != nil {
		return err
	}
	b := newBody(w, r)
	n, err := io.Copy(io.Discard, io.LimitReader(b, maxDropped+1))
	switch {
	case err != nil:
		return bodyFailed(err)
	case n > maxDropped:
		return refuse(http.StatusRequestEntityTooLarge, "the listing is longer than %d bytes", maxDropped)
	}
	w.WriteHeader(http.StatusOK)
	return nil
}

// text answers with a short text.
func text(w *response, r *http.Request, contentType, s string) error {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(s)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_, err := io.WriteString(w, s)
	return err
}
