package narbridge_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/castore/castoretest"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/narbridge"
	"storeboot/virtiofsd/pathinfo"
)

// nixStore is a Nix store below a directory, for Nix's own programs.
type nixStore struct {
	t     testing.TB
	root  string
	paths []string // of the closure, references first
	hash  map[string]string
}

// nix runs a program of Nix and returns its output, and its error as text.
func (s *nixStore) nix(args ...string) (string, string) {
	s.t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(os.Environ(), "NIX_REMOTE=local?root="+s.root, "HOME="+s.root, "XDG_CACHE_HOME="+s.root+"/cache", "NIX_CONFIG="+
		"build-users-group =\nsandbox = false\nsubstitute = false\nexperimental-features = nix-command\nnarinfo-cache-positive-ttl = 0\nnarinfo-cache-negative-ttl = 0\nconnect-timeout = 5\ndownload-attempts = 1")
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Sprintf("%v: %s", err, stderr.String())
	}
	return stdout.String(), ""
}

// must runs a program of Nix, which has to succeed.
func (s *nixStore) must(args ...string) string {
	s.t.Helper()
	out, err := s.nix(args...)
	if err != "" {
		s.t.Fatalf("%q: %s", args, err)
	}
	return out
}

func newNixStore(t testing.TB) *nixStore {
	t.Helper()
	for _, program := range []string{"nix", "nix-store"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("SKIP: %s is missing (apt-get install nix-bin)", program)
		}
	}
	s := &nixStore{t: t, root: t.TempDir(), hash: map[string]string{}}
	t.Cleanup(func() { // Nix makes all read-only
		_ = filepath.WalkDir(s.root, func(p string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				return os.Chmod(p, 0o755)
			}
			return nil
		})
	})
	return s
}

// fill makes a closure of 42 paths: each refers to the one before and some to
// themselves. The last one has all kinds of files.
func (s *nixStore) fill(large int) {
	s.t.Helper()
	var register strings.Builder
	for i := range 42 {
		n := infoOf("", fmt.Sprint("path-", i))
		p := n.StorePath.Absolute()
		dir := s.root + p
		files := map[string]string{"name": n.StorePath.Name, "self": p}
		if i == 41 {
			for j := range 60 {
				files[strings.Repeat("deep/", 1+j%40)+fmt.Sprint("f", j)] = strings.Repeat(fmt.Sprint(j), j)
			}
			files["empty"], files["large"] = "", string(castoretest.Pattern(large, 9))
			files["odd name \"'\\*?\n\t"+strings.Repeat("x", 200)], files["ünïcode"], files[".hidden"] = "1", "2", "3"
		}
		for name, content := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				s.t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				s.t.Fatal(err)
			}
		}
		for _, err := range []error{
			os.MkdirAll(dir+"/empty-dir", 0o755), os.Symlink("name", dir+"/link"), os.Symlink("/nowhere", dir+"/dangling"),
			os.WriteFile(dir+"/run", []byte("#!/bin/sh\n"), 0o755), os.Chmod(dir+"/run", 0o755),
		} {
			if err != nil {
				s.t.Fatal(err)
			}
		}
		var refs []string
		if i > 0 {
			refs = append(refs, s.paths[i-1], s.paths[i/2])
		}
		if i%5 == 0 {
			refs = append(refs, p)
		}
		slices.Sort(refs)
		refs = slices.Compact(refs)
		nar, err := ingest.Path(s.t.Context(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), dir, nil)
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintf(&register, "%s\n%x\n%d\n\n%d\n%s", p, nar.NarSHA256, nar.NarSize, len(refs), strings.Join(append(refs, ""), "\n"))
		s.paths = append(s.paths, p)
	}
	list := filepath.Join(s.root, "register")
	if err := os.WriteFile(list, []byte(register.String()), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.must("sh", "-c", `nix-store --load-db <"$0"`, list)
	for _, p := range s.paths {
		s.hash[p] = s.dump(p)
	}
}

// dump is the hash of the NAR that Nix makes of a path.
func (s *nixStore) dump(p string) string {
	s.t.Helper()
	sum := sha256.Sum256([]byte(s.must("nix-store", "--dump", s.root+p)))
	return hex.EncodeToString(sum[:])
}

func (s *nixStore) last() string { return s.paths[len(s.paths)-1] }

// same fails unless a store has the closure of s, byte for byte.
func (s *nixStore) same(other *nixStore) {
	s.t.Helper()
	valid := strings.Fields(other.must("nix-store", "--query", "--requisites", s.last()))
	slices.Sort(valid)
	want := slices.Sorted(slices.Values(s.paths))
	if !slices.Equal(valid, want) {
		s.t.Fatalf("the closure has %d paths, want %d", len(valid), len(want))
	}
	for _, p := range s.paths {
		if got := other.dump(p); got != s.hash[p] {
			s.t.Errorf("%s has the NAR hash %s, want %s", p, got, s.hash[p])
		}
	}
}

// largeFile is the size of the large file of the closure, in bytes.
func largeFile() int {
	if testing.Short() {
		return 5 << 20
	}
	return 101 << 20
}

// TestNixCopy copies a closure with Nix to a bridge and from it into an empty
// store.
func TestNixCopy(t *testing.T) {
	// A large file takes Nix, and our xz, long to compress: it goes with two.
	large, small := newNixStore(t), newNixStore(t)
	large.fill(largeFile())
	if !testing.Short() {
		small.fill(1 << 20)
	}
	for _, tt := range []struct {
		name, query string
		large       bool // and not left out with -short: each runs Nix 50 times
	}{
		{"none", "compression=none", true},
		{"zstd", "compression=zstd&parallel-compression=true&write-nar-listing=true", true},
		{"bzip2", "compression=bzip2", false},
		{"gzip", "compression=gzip", false},
		{"br", "compression=br", false},
		{"lz4", "compression=lz4", false},
		{"lzip", "compression=lzip&compression-level=0", false},
		{"xz", "compression=xz&compression-level=0", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if testing.Short() && !tt.large {
				t.Skip("SKIP: slow; upload_test.go has each compression too")
			}
			query := tt.query
			b := serve(t, guarded(t), narbridge.Options{})
			from := &nixStore{t, small.root, small.paths, small.hash}
			if tt.large {
				from = &nixStore{t, large.root, large.paths, large.hash}
			}
			from.must("nix", "copy", "--to", b.url+"?"+query, from.last())
			for _, p := range from.paths {
				path, _, err := storepath.ParseAbsolute(p)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := b.PathInfos.Get(t.Context(), path.Hash); err != nil {
					t.Error(err)
				}
			}
			to := newNixStore(t)
			to.must("nix", "copy", "--from", b.url, "--no-check-sigs", from.last())
			from.same(to)
			out := from.must("nix", "path-info", "--store", b.url, "--recursive", "--size", from.last())
			if n := strings.Count(out, "/nix/store/"); n != len(from.paths) {
				t.Errorf("path-info has %d paths: %s", n, out)
			}
			from.must("nix", "store", "verify", "--store", b.url, "--no-trust", "--recursive", from.last())
			if got := from.must("nix", "store", "cat", "--store", b.url, from.last()+"/name"); got != "path-41" {
				t.Errorf("cat: %q", got)
			}
			from.must("nix", "copy", "--to", b.url+"?"+query, from.last()) // once more: nothing to do
		})
	}
}

// TestNixSignatures holds that Nix takes what the bridge signs and what it signed
// itself, with trusted keys, and that the bridge takes what Nix signs.
func TestNixSignatures(t *testing.T) {
	from := newNixStore(t)
	from.fill(1000)
	dir := t.TempDir()
	key := func(name string) (secret, public string) {
		secret = filepath.Join(dir, name)
		from.must("nix-store", "--generate-binary-cache-key", name, secret, secret+".pub")
		b, err := os.ReadFile(secret + ".pub")
		if err != nil {
			t.Fatal(err)
		}
		return secret, string(b)
	}
	ourSecret, ourPublic := key("bridge-1")
	theirSecret, theirPublic := key("client-1")
	ours, err := pathinfo.ReadSecretKey(ourSecret)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := pathinfo.ParsePublicKeys(theirPublic)
	if err != nil {
		t.Fatal(err)
	}
	b := newBridge(t, narbridge.Options{SigningKeys: []pathinfo.SecretKey{ours}, TrustedKeys: theirs, RequireSignature: true, Token: "secret"})
	netrc := filepath.Join(dir, "netrc")
	host, _, _ := strings.Cut(strings.TrimPrefix(b.url, "http://"), ":")
	if err := os.WriteFile(netrc, []byte("machine "+host+" login any password secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := from.nix("nix", "copy", "--to", b.url, from.last()); !strings.Contains(err, "401") {
		t.Errorf("without token: %q", err)
	}
	if _, err := from.nix("nix", "copy", "--option", "netrc-file", netrc, "--to", b.url, from.last()); !strings.Contains(err, "403") || !strings.Contains(err, "no signature") {
		t.Errorf("without signature: %q", err)
	}
	b.empty("before it is signed")
	from.must("nix", "copy", "--option", "netrc-file", netrc, "--to", b.url+"?compression=zstd&secret-key="+theirSecret, from.last())
	for name, public := range map[string]string{"bridge": ourPublic, "client": theirPublic} {
		to := newNixStore(t)
		to.must("nix", "copy", "--from", b.url, "--option", "trusted-public-keys", strings.TrimSpace(public), from.last())
		from.same(to)
		to.must("nix", "store", "verify", "--store", b.url, "--option", "trusted-public-keys", strings.TrimSpace(public), "--recursive", from.last())
		if name == "bridge" {
			to = newNixStore(t)
			_, stranger := key("stranger-1")
			if _, err := to.nix("nix", "copy", "--from", b.url, "--option", "trusted-public-keys", strings.TrimSpace(stranger), from.last()); err == "" {
				t.Error("Nix takes paths without a signature that it trusts")
			}
		}
	}
}

// TestNixContentAddressed holds that what Nix adds by content is taken without a
// signature where one is required.
func TestNixContentAddressed(t *testing.T) {
	from := newNixStore(t)
	file := filepath.Join(from.root, "file")
	if err := os.WriteFile(file, []byte(strconv.Itoa(42)), 0o644); err != nil {
		t.Fatal(err)
	}
	b := newBridge(t, narbridge.Options{RequireSignature: true, TrustedKeys: publicKeys(t, testKey(t, "a-1"))})
	for _, command := range [][]string{
		{"nix-store", "--add", file},
		{"nix-store", "--add-fixed", "sha256", file},
		{"nix-store", "--add-fixed", "--recursive", "sha512", file},
		{"nix-instantiate", "--eval", "--read-write-mode", "--expr", `builtins.toFile "refers" (builtins.toFile "inner" "x")`},
	} {
		p := strings.Trim(strings.TrimSpace(from.must(command...)), `"`)
		from.must("nix", "copy", "--to", b.url, p)
		to := newNixStore(t)
		to.must("nix", "copy", "--from", b.url, p)
		if a, b := from.dump(p), to.dump(p); a != b {
			t.Errorf("%s: %s and %s", p, a, b)
		}
	}
	// By a weak hash a path does not follow from its contents.
	weak := strings.TrimSpace(from.must("nix-store", "--add-fixed", "sha1", file))
	if _, err := from.nix("nix", "copy", "--to", b.url, weak); !strings.Contains(err, "403") {
		t.Errorf("addressed by SHA-1: %q", err)
	}
}
