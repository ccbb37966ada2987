package narbridge

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strings"
)

// authorize refuses a request to write without the token, and one that a web
// page makes: a browser may reach loopback addresses on behalf of any page.
func (s *Server) authorize(w *response, r *http.Request) error {
	if r.Header.Get("Origin") != "" {
		return refuse(http.StatusForbidden, "web pages may not write to the store")
	}
	if s.o.Token == "" {
		return nil
	}
	_, given, ok := r.BasicAuth()
	if !ok {
		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if given = ""; strings.EqualFold(scheme, "bearer") {
			given = strings.TrimSpace(token)
		}
	}
	// The digests have one length, so that the time says nothing of the token's.
	got, want := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(s.o.Token))
	if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
		return nil
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="store"`)
	if r.Header.Get("Authorization") == "" {
		return refuse(http.StatusUnauthorized, "writing needs the token of the server: as the password in a netrc file, or as a bearer token")
	}
	return refuse(http.StatusUnauthorized, "the token is not that of the server")
}
