package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// open opens a bucket whose pauses between attempts are short.
func open(t testing.TB, url string) Bucket {
	t.Helper()
	a, err := ParseAddress(url)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Open(context.Background(), a)
	if err != nil {
		t.Fatal(err)
	}
	if r, ok := b.(*remote); ok {
		r.pause = time.Millisecond
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// testBucket holds what is true of every bucket. b is empty.
func testBucket(t *testing.T, b Bucket) {
	ctx := context.Background()
	if data, err := b.Get(ctx, "a/b/c", 10); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of an absent object = %q, %v", data, err)
	}
	if exists, err := b.Exists(ctx, "a/b/c"); exists || err != nil {
		t.Errorf("Exists of an absent object = %v, %v", exists, err)
	}
	contents := map[string][]byte{"a/b/c": []byte("content"), "empty": {}, "a/b/large": bytes.Repeat([]byte("0123456789"), 300_000)}
	check := func() {
		t.Helper()
		for key, want := range contents {
			got, err := b.Get(ctx, key, 10<<20)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Get %s = %d bytes, %v", key, len(got), err)
			}
			if exists, err := b.Exists(ctx, key); !exists || err != nil {
				t.Errorf("Exists %s = %v, %v", key, exists, err)
			}
		}
	}
	for range 2 {
		for key, data := range contents {
			mine := bytes.Clone(data)
			if err := b.Put(ctx, key, mine); err != nil {
				t.Fatal(err)
			}
			clear(mine)
		}
		check() // before the flush
		if err := b.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		check()
	}
	contents["a/b/c"] = []byte("other")
	for range 2 { // the second one before the first is flushed
		if err := b.Put(ctx, "a/b/c", contents["a/b/c"]); err != nil {
			t.Fatal(err)
		}
	}
	check()
	var large tooLarge
	if data, err := b.Get(ctx, "a/b/large", 2_999_999); !errors.As(err, &large) {
		t.Errorf("Get beyond the limit = %d bytes, %v", len(data), err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for name, err := range map[string]error{
		"Get": second(b.Get(canceled, "a/b/c", 9)), "Exists": second(b.Exists(canceled, "a/b/c")),
		"Put": b.Put(canceled, "x", nil), "Flush": b.Flush(canceled),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled %s: %v", name, err)
		}
	}
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 20 {
				key, data := fmt.Sprint("shared/", i), []byte(fmt.Sprint(i))
				if i%5 == 0 {
					key = fmt.Sprint("own/", w, "/", i)
				}
				if err := b.Put(ctx, key, data); err != nil {
					t.Error(err)
				}
				if i%7 == w {
					if err := b.Flush(ctx); err != nil {
						t.Error(err)
					}
				}
				if got, err := b.Get(ctx, key, 9); err != nil || !bytes.Equal(got, data) {
					t.Errorf("Get %s = %q, %v", key, got, err)
				}
			}
		})
	}
	wg.Wait()
}

func second[T any](_ T, err error) error { return err }

func TestMemory(t *testing.T) { testBucket(t, open(t, "objectstore+memory:///")) }
func TestLocal(t *testing.T)  { testBucket(t, open(t, "objectstore+file://"+t.TempDir()+"/deep/dir")) }

func TestHTTP(t *testing.T) {
	for _, webdav := range []bool{false, true} {
		server := httptest.NewServer(&objectServer{webdav: webdav})
		testBucket(t, open(t, "objectstore+"+server.URL+"/deep/prefix?allow_http=1"))
		server.Close()
	}
}

// TestGCS has a server that speaks the little of Google's protocol that is used.
func TestGCS(t *testing.T) {
	server := httptest.NewServer(gcsHandler(&objectServer{}))
	defer server.Close()
	t.Setenv("STORAGE_EMULATOR_HOST", server.Listener.Addr().String())
	testBucket(t, open(t, "objectstore+gs://bucket/prefix"))
}

func TestAzure(t *testing.T) {
	server := httptest.NewServer(azureHandler(&objectServer{}))
	defer server.Close()
	testBucket(t, open(t, "objectstore+az://container/prefix?allow_http=1&account_name=me&account_key=c2VjcmV0&endpoint="+server.URL))
}

// TestCredentials holds which credentials are asked for, and that errors name
// the way out.
func TestCredentials(t *testing.T) {
	for url, want := range map[string]string{
		"objectstore+s3://b?access_key_id=k":                      "go together",
		"objectstore+az://c":                                      "AZURE_STORAGE_ACCOUNT",
		"objectstore+az://c?account_name=a&account_key=%21":       "account_key",
		"objectstore+gs://b?service_account=/nonexistent/key":     "/nonexistent/key",
		"objectstore+gs://b?service_account_key=%7B%7D":           "b",
		"objectstore+file:///dev/null":                            "not a directory",
		"objectstore+az://c?account_name=a&client_id=x&timeout=1": "tenant",
	} {
		t.Setenv("AZURE_STORAGE_ACCOUNT", "")
		t.Setenv("AZURE_STORAGE_CONNECTION_STRING", "")
		a, err := ParseAddress(url)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := Open(context.Background(), a); err == nil || !bytes.Contains([]byte(err.Error()), []byte(want)) {
			t.Errorf("%s: %v, error %v, want %q", url, b, err, want)
		}
	}
	for _, url := range []string{
		"objectstore+az://c?use_emulator=1", "objectstore+az://c?account_name=a&sas_token=%3Fsv%3D1", "objectstore+az://c?account_name=a&skip_signature=1",
		"objectstore+gs://b?skip_signature=1", "objectstore+s3://b?skip_signature=1", "objectstore+s3://b?unsigned_payload=1&virtual_hosted_style_request=1",
	} {
		open(t, url)
	}
}
