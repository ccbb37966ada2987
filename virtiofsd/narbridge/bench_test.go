package narbridge_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/narbridge"
)

// benchNARs are the NARs of a closure of small paths and of one large path:
// 1 GiB with STOREBOOT_BENCH_LARGE=1024, the size in MiB; by default 128.
func benchNARs(b *testing.B) map[string][]string {
	large := 128
	if s := os.Getenv("STOREBOOT_BENCH_LARGE"); s != "" {
		if _, err := fmt.Sscan(s, &large); err != nil {
			b.Fatal(err)
		}
	}
	var small []string
	for i := range 200 {
		small = append(small, fileNAR(b, string(castoretest.Pattern(20_000, uint64(i))), false))
	}
	return map[string][]string{"200 of 20 KB": small, fmt.Sprintf("1 of %d MiB", large): {fileNAR(b, string(castoretest.Pattern(large<<20, 1)), false)}}
}

func total(nars []string) int64 {
	n := 0
	for _, nar := range nars {
		n += len(nar)
	}
	return int64(n)
}

// BenchmarkUpload puts NARs and narinfos into an empty store, beside a server
// that writes what is put to files and syncs each: what any upload has to do.
func BenchmarkUpload(b *testing.B) {
	for name, nars := range benchNARs(b) {
		b.Run("bridge/"+name, func(b *testing.B) {
			b.SetBytes(total(nars))
			for b.Loop() {
				b.StopTimer()
				s := serve(b, guarded(b), narbridge.Options{})
				b.StartTimer()
				for i, nar := range nars {
					s.mustPut(nar, infoOf(nar, fmt.Sprint("p", i)))
				}
			}
		})
		b.Run("floor/"+name, func(b *testing.B) {
			dir := b.TempDir()
			floor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				f, err := os.Create(filepath.Join(dir, strings.ReplaceAll(r.URL.Path, "/", "_")))
				if err == nil {
					_, err = io.Copy(io.MultiWriter(f, sha256.New()), r.Body)
				}
				if err == nil {
					err = f.Sync()
				}
				if err != nil {
					http.Error(w, err.Error(), http.StatusInternalServerError)
				}
				_ = f.Close()
			}))
			defer floor.Close()
			s := &bridge{url: floor.URL, t: b}
			b.SetBytes(total(nars))
			for b.Loop() {
				for i, nar := range nars {
					s.mustPut(nar, infoOf(nar, fmt.Sprint("p", i)))
				}
			}
		})
	}
}

// BenchmarkDownload gets narinfos and NARs, beside net/http's server of files,
// which is what a static cache is.
func BenchmarkDownload(b *testing.B) {
	get := func(b *testing.B, url string, want int) {
		resp, err := http.Get(url)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || want > 0 && n != int64(want) {
			b.Fatalf("%d bytes, %v", n, err)
		}
	}
	for name, nars := range benchNARs(b) {
		b.Run("bridge/"+name, func(b *testing.B) {
			s := serve(b, guarded(b), narbridge.Options{})
			var infos, urls []string
			for i, nar := range nars {
				n := infoOf(nar, fmt.Sprint("p", i))
				s.mustPut(nar, n)
				infos, urls = append(infos, s.url+infoPath(n)), append(urls, s.url+s.narURL(n))
			}
			b.SetBytes(total(nars))
			for b.Loop() {
				for i := range nars {
					get(b, infos[i], 0)
					get(b, urls[i], len(nars[i]))
				}
			}
		})
		b.Run("floor/"+name, func(b *testing.B) {
			dir := b.TempDir()
			for i, nar := range nars {
				info := infoOf(nar, fmt.Sprint("p", i)).Marshal()
				if err := os.WriteFile(fmt.Sprint(dir, "/", i, ".narinfo"), bytes.TrimSpace(info), 0o644); err != nil {
					b.Fatal(err)
				}
				if err := os.WriteFile(fmt.Sprint(dir, "/", i, ".nar"), []byte(nar), 0o644); err != nil {
					b.Fatal(err)
				}
			}
			floor := httptest.NewServer(http.FileServer(http.Dir(dir)))
			defer floor.Close()
			b.SetBytes(total(nars))
			for b.Loop() {
				for i := range nars {
					get(b, fmt.Sprint(floor.URL, "/", i, ".narinfo"), 0)
					get(b, fmt.Sprint(floor.URL, "/", i, ".nar"), len(nars[i]))
				}
			}
		})
	}
}
