package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"storeboot/internal/cli"
	"storeboot/internal/storepath"
	"storeboot/virtiofsd/castore"
	"storeboot/virtiofsd/ingest"
	"storeboot/virtiofsd/nixdb"
	"storeboot/virtiofsd/pathinfo"
	"storeboot/virtiofsd/storeaddr"
)

const (
	hashA = "00000000000000000000000000000000"
	hashB = "11111111111111111111111111111111"
	hashC = "22222222222222222222222222222222"
	// someHash is a NAR hash in the forms that Nix writes.
	someHash    = "sha256:1wcwacrb5q36hpsx1shk0dkm26hwbmqmgi0nm973h9jqkdz3jz89"
	someHashHex = "sha256:097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"
	someHashSRI = "sha256-CX05fptYJjhOqhbEV3FdHBpRZwMT6tD1hWbgsjJTnPE="
)

func TestParseClosure(t *testing.T) {
	path := func(hash, name string) string { return "/nix/store/" + hash + "-" + name }
	item := func(p, more string) string {
		return fmt.Sprintf(`{"path":%q,"narHash":%q,"narSize":136%s}`, p, someHash, more)
	}
	for _, tt := range []struct{ name, in, want, err string }{
		{"empty", `{"closure":[]}`, "", ""},
		{"other keys", `{"closure":[` + item(path(hashA, "a"), `,"closureSize":9,"valid":true`) + `],"name":"x","outputs":{}}`, "a", ""},
		{"in order", `{"closure":[` + item(path(hashA, "a"), `,"references":["`+path(hashA, "a")+`","`+path(hashB, "b")+`"]`) + "," + item(path(hashB, "b"), `,"references":["`+path(hashC, "c")+`"]`) + "," + item(path(hashC, "c"), "") + `]}`, "c b a", ""},
		{"in a circle", `{"closure":[` + item(path(hashA, "a"), `,"references":["`+path(hashB, "b")+`"]`) + "," + item(path(hashB, "b"), `,"references":["`+path(hashA, "a")+`"]`) + `]}`, "b a", ""},
		{"twice", `{"closure":[` + item(path(hashA, "a"), "") + "," + item(path(hashA, "a"), "") + `]}`, "a", ""},
		{"as an object", `{"closure":{"` + path(hashA, "a") + `":` + item("", "") + `}}`, "a", ""},
		{"base names", `{"closure":[` + item(hashA+"-a", `,"references":["`+hashB+`-b"]`) + `]}`, "a", ""},
		{"null members", `{"closure":[` + item(path(hashA, "a"), `,"references":null,"deriver":null,"signatures":null,"ca":null`) + `]}`, "a", ""},
		{"ca of another form", `{"closure":[` + item(path(hashA, "a"), `,"ca":{"method":"nar"}`) + `]}`, "a", ""},

		{"not JSON", "closure", "", "invalid character"},
		{"cut", `{"closure":[`, "", "unexpected end"},
		{"no closure", `{"closures":[]}`, "", `no key "closure"`},
		{"a word", `{"closure":"x"}`, "", "closure: "},
		{"invalid path", `{"closure":{"` + path(hashA, "a") + `":null}}`, "", "not a valid path"},
		{"bad path", `{"closure":[` + item("/nix/store/x", "") + `]}`, "", "/nix/store/x"},
		{"path below one", `{"closure":[` + item(path(hashA, "a/bin"), "") + `]}`, "", "below"},
		{"other store", `{"closure":[` + item("/gnu/store/"+hashA+"-a", "") + `]}`, "", "/gnu/store"},
		{"no hash", `{"closure":[{"path":"` + path(hashA, "a") + `","narSize":1}]}`, "", "narHash"},
		{"no size", `{"closure":[{"path":"` + path(hashA, "a") + `","narHash":"` + someHash + `"}]}`, "", "narSize"},
		{"negative size", `{"closure":[{"path":"` + path(hashA, "a") + `","narHash":"` + someHash + `","narSize":-1}]}`, "", "narSize"},
		{"bad reference", `{"closure":[` + item(path(hashA, "a"), `,"references":["x"]`) + `]}`, "", "reference"},
		{"bad signature", `{"closure":[` + item(path(hashA, "a"), `,"signatures":["x"]`) + `]}`, "", "signature"},
		{"bad deriver", `{"closure":[` + item(path(hashA, "a"), `,"deriver":"x.drv"`) + `]}`, "", "deriver"},
		{"bad ca", `{"closure":[` + item(path(hashA, "a"), `,"ca":"fixed:x"`) + `]}`, "", "content address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseClosure(strings.NewReader(tt.in))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			var names []string
			for _, v := range got {
				names = append(names, v.StorePath.Name)
			}
			if err != nil || strings.Join(names, " ") != tt.want {
				t.Errorf("%v, %v, want %s", names, err, tt.want)
			}
		})
	}
}

func TestParseNARHash(t *testing.T) {
	want, err := parseNARHash(someHash)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{someHashHex, someHashSRI} {
		if got, err := parseNARHash(s); err != nil || got != want {
			t.Errorf("%s: %x, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256:", "sha256-", "sha512-" + someHashSRI[7:], "md5:x", someHash[:50], someHashHex[:60], someHashSRI[:40], "sha256:" + strings.Repeat("!", 52)} {
		if got, err := parseNARHash(s); err == nil {
			t.Errorf("%q: %x", s, got)
		}
	}
}

func FuzzParseClosure(f *testing.F) {
	for _, s := range []string{
		`{"closure":[{"path":"/nix/store/` + hashA + `-a","narHash":"` + someHash + `","narSize":1,"references":["/nix/store/` + hashA + `-a"],"deriver":"/nix/store/` + hashB + `-b.drv","signatures":[],"ca":"` + "fixed:r:" + someHash + `"}]}`,
		`{"closure":{"/nix/store/` + hashA + `-a":{"narHash":"` + someHashSRI + `","narSize":1}}}`,
	} {
		if got, err := parseClosure(strings.NewReader(s)); err != nil || len(got) != 1 {
			f.Fatalf("the seed %s does not reach the end: %v", s, err)
		}
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseClosure(strings.NewReader(s))
		if err != nil {
			return
		}
		seen := map[storepath.StorePath]bool{}
		for _, v := range got {
			if seen[v.StorePath] {
				t.Fatalf("%s is there twice", v.StorePath)
			}
			seen[v.StorePath] = true
		}
	})
}

// fakeNix makes a Nix store of two paths below a new directory, and the JSON
// that describes it.
func fakeNix(t *testing.T) (root string, paths []storepath.StorePath, closure []map[string]any) {
	t.Helper()
	root = t.TempDir()
	for i, name := range []string{hashA + "-needs", hashB + "-needed"} {
		p, err := storepath.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(root, p.Absolute())
		write(t, dir, map[string]string{"file": name, "bin/run*": "#!", "link": "-> file"})
		r, err := ingest.Path(t.Context(), castore.NewMemoryBlobs(), castore.NewMemoryDirectories(), dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
		closure = append(closure, map[string]any{"path": p.Absolute(), "narHash": narHash(r.NarSHA256), "narSize": r.NarSize, "closureSize": r.NarSize, "references": []string{}})
		if i == 1 {
			closure[1]["ca"] = "fixed:r:" + narHash(r.NarSHA256)
		}
	}
	closure[0]["references"] = []string{paths[0].Absolute(), paths[1].Absolute()}
	closure[0]["signatures"] = []string{pathinfo.Signature{Name: "k", Data: [64]byte{1}}.String()}
	closure[0]["deriver"] = "/nix/store/" + hashC + "-needs.drv"
	return root, paths, closure
}

// encodeClosure is the file that copy reads.
func encodeClosure(t *testing.T, closure any) string {
	t.Helper()
	b, err := json.Marshal(map[string]any{"closure": closure})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// dropInCopy runs the copy command on a Nix store below root.
func dropInCopy(t *testing.T, root, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	clearDropInEnv(t)
	o := &dropInCopyOptions{nixRoot: root, addresses: storeaddr.Addresses{Dir: os.Getenv("STOREBOOT_STORE")}}
	c := dropInCopyCommand(o, storeaddr.Addresses{})
	c.Use = "tvix-store"
	var out, errOut bytes.Buffer
	code = cli.Run(t.Context(), c, args, cli.Streams{In: strings.NewReader(stdin), Out: &out, Err: &errOut})
	return code, out.String(), errOut.String()
}

func TestDropInCopy(t *testing.T) {
	newStore(t)
	root, paths, closure := fakeNix(t)
	for range 2 { // the second time all is there
		if code, stdout, stderr := dropInCopy(t, root, encodeClosure(t, closure), "-"); code != 0 || stdout != "" || stderr != "" {
			t.Fatalf("exit %d, %q: %s", code, stdout, stderr)
		}
	}
	fsck(t)
	store, err := storeaddr.Open(t.Context(), storeaddr.Addresses{Dir: os.Getenv("STOREBOOT_STORE")})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	needs, err := getPathInfo(t.Context(), store, paths[0])
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(needs.References, paths) || len(needs.Signatures) != 1 || needs.Deriver == nil || needs.Deriver.Name != "needs" || needs.CA != nil {
		t.Errorf("%+v", needs)
	}
	needed, err := getPathInfo(t.Context(), store, paths[1])
	if err != nil || needed.CA == nil || needed.CA.Type != pathinfo.CANARSHA256 {
		t.Errorf("%+v, %v: the content address is lost", needed, err)
	}
}

func TestDropInCopyRefuses(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(closure []map[string]any)
		err    string
	}{
		{"other contents", func(c []map[string]any) { c[1]["narHash"] = someHash }, "NAR hash"},
		{"path that is not there", func(c []map[string]any) { c[1]["path"] = "/nix/store/" + hashC + "-gone" }, hashC + "-gone"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			newStore(t)
			root, _, closure := fakeNix(t)
			tt.change(closure)
			file := filepath.Join(t.TempDir(), "attrs.json")
			if err := os.WriteFile(file, []byte(encodeClosure(t, closure)), 0o644); err != nil {
				t.Fatal(err)
			}
			code, _, stderr := dropInCopy(t, root, "", file)
			if code != 1 || !strings.Contains(stderr, tt.err) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d: %s, want %q", code, stderr, tt.err)
			}
		})
	}
}

// TestDropInCopyFromNix copies what Nix describes.
func TestDropInCopyFromNix(t *testing.T) {
	newStore(t)
	root := t.TempDir()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("contents"), 0o644); err != nil {
		t.Fatal(err)
	}
	path := nix(t, root, "nix-store", "--add", file)[0]
	if _, err := exec.LookPath("nix"); err != nil {
		t.Skip("SKIP: nix is missing (apt-get install nix-bin)")
	}
	out := nix(t, root, "nix", "--extra-experimental-features", "nix-command", "path-info", "--json", "--closure-size", "--recursive", path)
	stdin := `{"closure":` + strings.Join(out, " ") + `}` // what jq makes of it
	if code, _, stderr := dropInCopy(t, root, stdin, "-"); code != 0 {
		t.Fatalf("exit %d: %s (Nix says %s)", code, stderr, out)
	}
	if got := must(t, "cat", path); got != "contents" {
		t.Errorf("the file reads %q", got)
	}
}

// TestInOrderLong holds that a long chain of references is no trouble.
func TestInOrderLong(t *testing.T) {
	const n = 200_000
	paths := make([]nixdb.ValidPath, n)
	for i := range paths {
		paths[i].StorePath.Name = fmt.Sprint(i)
		if i > 0 {
			paths[i-1].References = []storepath.StorePath{paths[i].StorePath}
		}
	}
	got := inOrder(paths)
	if len(got) != n || got[0].StorePath.Name != fmt.Sprint(n-1) || got[n-1].StorePath.Name != "0" {
		t.Errorf("%d paths", len(got))
	}
}
