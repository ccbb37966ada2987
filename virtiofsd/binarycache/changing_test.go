package binarycache

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/narinfo"
	"storeboot/virtiofsd/pathinfo"
)

// TestNARChangesUnderResume breaks a download off in the middle, and gives the
// rest of another file when it is asked for it: that is never taken for the whole.
func TestNARChangesUnderResume(t *testing.T) {
	p, archive := testPath(t, "hello", 1<<20)
	dir, _ := put(t, p, archive, "none")
	other := bytes.Clone(archive)
	other[len(other)/4*3] ^= 1
	for _, tt := range []struct {
		name, tag, otherTag string
		other               []byte
		honest              bool // it heeds If-Range: another file comes from its beginning
		want                error
		text                string
	}{
		{"another tag", `"a"`, `"b"`, other, false, errChanged, ""},
		{"another tag, from the beginning", `"a"`, `"b"`, other, true, errChanged, ""},
		{"another length", "", "", other[:len(other)-8], false, errChanged, ""},
		{"nothing tells but the hash", "", "", other, false, nil, "does not have the hash"},
		{"the same tag, wrongly", `"a"`, `"a"`, other, false, nil, "does not have the hash"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var requests atomic.Int32
			url := serve(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, "/nar/") {
					return false
				}
				if requests.Add(1) == 1 {
					w.Header().Set("Content-Length", strconv.Itoa(len(archive)))
					if tt.tag != "" {
						w.Header().Set("ETag", tt.tag)
					}
					_, _ = w.Write(archive[:len(archive)/2])
					panic(http.ErrAbortHandler)
				}
				if tt.otherTag != "" {
					w.Header().Set("ETag", tt.otherTag)
				}
				offset, err := strconv.Atoi(strings.Trim(r.Header.Get("Range"), "bytes=-"))
				if err != nil || offset == 0 || offset > len(archive)/2 {
					t.Errorf("Range %q", r.Header.Get("Range"))
				}
				if tt.honest && r.Header.Get("If-Range") != tt.otherTag {
					_, _ = w.Write(tt.other)
					return true
				}
				w.Header().Set("Content-Range", "bytes "+strconv.Itoa(offset)+"-"+strconv.Itoa(len(tt.other)-1)+"/"+strconv.Itoa(len(tt.other)))
				w.WriteHeader(http.StatusPartialContent)
				_, _ = w.Write(tt.other[offset:])
				return true
			})
			_, err := download(open(t, url+"?allow-unsigned=1"), p)
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("%v, want %v %s", err, tt.want, tt.text)
			}
			if requests.Load() != 2 {
				t.Errorf("%d requests for the NAR", requests.Load())
			}
		})
	}
}

// TestSignedFields changes each thing that a signature is of: it does not hold any
// more.
func TestSignedFields(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pathinfo.ParseSecretKey("cache-1:" + base64.StdEncoding.EncodeToString(private))
	if err != nil {
		t.Fatal(err)
	}
	p, archive := testPath(t, "hello", 10)
	p.StorePath.Name = "input-addressed"
	p.References = []storepath.StorePath{p.StorePath}
	p.Signatures = []pathinfo.Signature{secret.Sign(p.Fingerprint())}
	dir, n := put(t, p, archive, "none")
	address := "?trusted-public-keys=" + secret.Public()
	if _, err := download(open(t, "file://"+dir+address), p); err != nil {
		t.Fatal(err)
	}
	other, _ := testPath(t, "other", 5)
	for name, change := range map[string]func(n *narinfo.NarInfo){
		"name":            func(n *narinfo.NarInfo) { n.StorePath.Name = "other" },
		"NarHash":         func(n *narinfo.NarInfo) { n.NarHash[0]++ },
		"NarSize":         func(n *narinfo.NarInfo) { n.NarSize++ },
		"reference":       func(n *narinfo.NarInfo) { n.References = append(n.References, other.StorePath) },
		"no reference":    func(n *narinfo.NarInfo) { n.References = nil },
		"signature":       func(n *narinfo.NarInfo) { n.Signatures[0].Data[0]++ },
		"no signature":    func(n *narinfo.NarInfo) { n.Signatures = nil },
		"name of the key": func(n *narinfo.NarInfo) { n.Signatures[0].Name = "cache-2" },
	} {
		lie, err := narinfo.Parse(n.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		change(lie)
		url := serve(t, dir, func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, ".narinfo") {
				return false
			}
			_, _ = w.Write(lie.Marshal())
			return true
		})
		if _, err := download(open(t, url+address), p); !errors.Is(err, pathinfo.ErrNotSigned) {
			t.Errorf("%s: %v, want %v", name, err, pathinfo.ErrNotSigned)
		}
	}
}
