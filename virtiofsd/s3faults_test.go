package main

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// TestS3Fails has a bucket that answers with errors, hangs, or gives other bytes
// than it was given: one line says which object of which bucket, nothing is
// reported as stored, and nothing wrong is read.
func TestS3Fails(t *testing.T) {
	newStore(t)
	src := filepath.Join(t.TempDir(), "src")
	write(t, src, map[string]string{"file": "contents"})
	path := strings.TrimSpace(must(t, "import", src)) // directories and path infos; blobs too, elsewhere
	imported := filepath.Join(t.TempDir(), "other")
	write(t, imported, map[string]string{"file": "other contents"})
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // of an import
		read   string // of cat
	}{
		{"500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, "500", "500"},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "no answer", "no answer"},
		{"other bytes", func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(404)
				return
			}
			_, _ = w.Write([]byte("other bytes"))
		}, "", "damaged"},
		{"breaks off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("begin"))
			panic(http.ErrAbortHandler)
		}, "", "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.answer)
			defer server.Close()
			bucket := "objectstore+s3://bucket/p?access_key_id=a&secret_access_key=b&allow_http=1&timeout=100ms&endpoint=" + server.URL
			if tt.want != "" {
				refused(t, 1, []string{"s3://bucket/p", "chunks/b3/", tt.want}, "import", "--blob-service-addr", bucket, imported)
			}
			refused(t, 1, []string{"s3://bucket/p", "chunks/b3/", tt.read}, "cat", "--blob-service-addr", bucket, path+"/file")
			if list := strings.TrimSpace(must(t, "list")); list != path {
				t.Errorf("the store holds %q", list)
			}
		})
	}
}
