package bucket

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"path"
	"strings"
	"sync"
)

// objectServer holds objects by the path of their URL. With webdav it asks for
// collections to be made first.
type objectServer struct {
	webdav bool

	mu          sync.Mutex
	objects     map[string][]byte
	collections map[string]bool
}

func (s *objectServer) get(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	data, ok := s.objects[key]
	return data, ok
}

func (s *objectServer) put(key string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.objects == nil {
		s.objects = map[string][]byte{}
	}
	s.objects[key] = data
}

// collection makes a collection and says the status.
func (s *objectServer) collection(key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.collections == nil {
		s.collections = map[string]bool{"/": true}
	}
	switch {
	case s.collections[key]:
		return http.StatusMethodNotAllowed
	case !s.collections[path.Dir(key)]:
		return http.StatusConflict
	}
	s.collections[key] = true
	return http.StatusCreated
}

func (s *objectServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := path.Clean(r.URL.Path)
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		data, ok := s.get(key)
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		_, _ = w.Write(data)
	case http.MethodPut:
		data, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		s.mu.Lock()
		conflict := s.webdav && !s.collections[path.Dir(key)]
		s.mu.Unlock()
		if conflict {
			w.WriteHeader(http.StatusConflict)
			return
		}
		s.put(key, data)
		w.WriteHeader(http.StatusCreated)
	case "MKCOL":
		w.WriteHeader(s.collection(key))
	default:
		w.WriteHeader(http.StatusMethodNotAllowed)
	}
}

// gcsHandler answers metadata and media reads and multipart uploads of the JSON
// interface of Google Cloud Storage.
func gcsHandler(s *objectServer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, escaped, isObject := strings.Cut(r.URL.EscapedPath(), "/o/")
		switch {
		case r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/upload/"):
			key, data, err := gcsUpload(r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			s.put(key, data)
			gcsObject(w, key, data)
		case r.Method == http.MethodGet && isObject:
			key, err := url.PathUnescape(escaped)
			data, ok := s.get(key)
			switch {
			case err != nil || !ok:
				http.NotFound(w, r)
			case r.URL.Query().Get("alt") == "media":
				w.Header().Set("Content-Length", fmt.Sprint(len(data)))
				_, _ = w.Write(data)
			default:
				gcsObject(w, key, data)
			}
		default:
			http.Error(w, "unknown request "+r.Method+" "+r.URL.String(), http.StatusNotImplemented)
		}
	})
}

func gcsUpload(r *http.Request) (key string, data []byte, err error) {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return "", nil, err
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	first, err := parts.NextPart()
	if err != nil {
		return "", nil, err
	}
	var meta struct{ Name string }
	if err := json.NewDecoder(first).Decode(&meta); err != nil {
		return "", nil, err
	}
	second, err := parts.NextPart()
	if err != nil {
		return "", nil, err
	}
	data, err = io.ReadAll(second)
	return meta.Name, data, err
}

func gcsObject(w http.ResponseWriter, key string, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": key, "bucket": "bucket", "size": fmt.Sprint(len(data))})
}

// azureHandler answers reads and uploads of block blobs.
func azureHandler(s *objectServer) http.Handler {
	var mu sync.Mutex
	blocks := map[string][]byte{}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		_, found := s.get(path.Clean(r.URL.Path))
		switch comp := r.URL.Query().Get("comp"); {
		case r.Method == http.MethodPut && comp == "block":
			data, _ := io.ReadAll(r.Body)
			mu.Lock()
			blocks[r.URL.Path+r.URL.Query().Get("blockid")] = data
			mu.Unlock()
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodPut && comp == "blocklist":
			text, _ := io.ReadAll(r.Body)
			var data []byte
			mu.Lock()
			for _, part := range strings.Split(string(text), "<Latest>")[1:] {
				id, _, _ := strings.Cut(part, "<")
				data = append(data, blocks[r.URL.Path+id]...)
			}
			mu.Unlock()
			s.put(path.Clean(r.URL.Path), data)
			w.WriteHeader(http.StatusCreated)
		case r.Method == http.MethodPut, found:
			s.ServeHTTP(w, r) // without the dates that the real server adds
		default:
			w.Header().Set("x-ms-error-code", "BlobNotFound")
			w.WriteHeader(http.StatusNotFound)
		}
	})
}
