package main

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storeboot/internal/cli"
)

// withInput runs the command with an input.
func withInput(in io.Reader, args ...string) (code int, stdout, stderr string) {
	var o, e bytes.Buffer
	code = cli.Run(context.Background(), newCommand(), args, cli.Streams{In: in, Out: &o, Err: &e})
	return code, o.String(), e.String()
}

// TestImportNAR holds that a NAR of a tree gives the store path of the tree.
func TestImportNAR(t *testing.T) {
	newStore(t)
	dir := sampleTree(t)
	archive := dump(t, dir)
	want := strings.TrimSpace(must(t, "import", dir))
	first := mustJSON[statJSON](t, "stat", "--json", want)
	file := filepath.Join(t.TempDir(), "sample.nar")
	if err := os.WriteFile(file, archive, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{os.Getenv("STOREBOOT_STORE"), t.TempDir()} { // one that has it, one that does not
		t.Setenv("STOREBOOT_STORE", store)
		code, stdout, stderr := withInput(bytes.NewReader(archive), "import", "--nar", "-", "--name", "sample")
		if code != 0 || strings.TrimSpace(stdout) != want || stderr != "" {
			t.Errorf("exit %d: %s%s, want %s", code, stdout, stderr, want)
		}
		if got := mustJSON[[]pathJSON](t, "import", "--json", "--nar", file); len(got) != 1 || got[0].Path != want || got[0].NarHash != first.Info.NarHash {
			t.Errorf("%+v", got)
		}
		if got := mustJSON[statJSON](t, "stat", "--json", want); got.Digest != first.Digest {
			t.Errorf("the tree is %s, of the directory %s", got.Digest, first.Digest)
		}
		if got := must(t, "export", want); got != string(archive) {
			t.Error("the export is another archive")
		}
		must(t, "verify")
	}
}

func TestImportStreamRefuses(t *testing.T) {
	store := newStore(t)
	archive := dump(t, sampleTree(t))
	dir := t.TempDir()
	write(t, dir, map[string]string{"text.nar": "no archive", "cut.nar": string(archive[:len(archive)/2]), "more.nar": string(archive) + "x", "text.tar": strings.Repeat("text", 300), "a b.nar": string(archive)})
	var none bytes.Buffer
	_ = tar.NewWriter(&none).Close()
	write(t, dir, map[string]string{"empty.tar": none.String()})
	for _, tt := range []struct {
		code int
		want []string
		args []string
	}{
		{1, []string{"text.nar", "not a NAR"}, []string{"--nar", dir + "/text.nar"}},
		{1, []string{"cut.nar", "unexpected EOF"}, []string{"--nar", dir + "/cut.nar"}},
		{1, []string{"more.nar", "behind its end"}, []string{"--nar", dir + "/more.nar"}},
		{1, []string{"text.tar", "tar"}, []string{"--tar", dir + "/text.tar"}},
		{1, []string{"empty.tar", "empty"}, []string{"--tar", dir + "/empty.tar"}},
		{1, []string{"none.nar", "no such file"}, []string{"--nar", dir + "/none.nar"}},
		{1, []string{"a b", "--name"}, []string{"--nar", dir + "/a b.nar"}},
		{2, []string{"--name"}, []string{"--nar", "-"}},
		{2, []string{"one of"}, []string{"--nar", "x", "--tar", "y"}},
		{2, []string{"unexpected"}, []string{"--nar", "x", dir}},
	} {
		refused(t, tt.code, tt.want, append([]string{"import"}, tt.args...)...)
	}
	if list := must(t, "list"); list != "" {
		t.Errorf("the store holds %q", list)
	}
	if left, _ := os.ReadDir(store + "/blobs/.staging"); len(left) != 0 {
		t.Errorf("%d staging directories are left", len(left))
	}
}

// TestImportTar compares with the import of the directory that the real tar
// packs.
func TestImportTar(t *testing.T) {
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("SKIP: tar is missing")
	}
	newStore(t)
	dir := sampleTree(t)
	want := strings.TrimSpace(must(t, "import", dir))
	for _, format := range []string{"gnu", "posix", "pax"} {
		for how, args := range map[string][]string{
			"the directory":    {"-C", filepath.Dir(dir), "-c", filepath.Base(dir)},
			"its contents":     {"-C", dir, "-c", "."},
			"an absolute path": {"-P", "--transform", "s|^.*/sample|/sample|", "-c", dir},
			"sparse":           {"-C", filepath.Dir(dir), "--sparse", "-c", "./sample"},
		} {
			out, err := exec.Command("tar", append([]string{"--format", format, "-f", "-"}, args...)...).Output()
			if err != nil {
				t.Fatal(err)
			}
			code, stdout, stderr := withInput(bytes.NewReader(out), "import", "--tar", "-", "--name", "sample")
			if code != 0 || strings.TrimSpace(stdout) != want || stderr != "" {
				t.Errorf("%s, %s: exit %d: %s%s, want %s", format, how, code, stdout, stderr, want)
			}
		}
	}
	must(t, "verify")
}

// TestImportStreamCanceled holds that an import ends although its input waits.
func TestImportStreamCanceled(t *testing.T) {
	newStore(t)
	in, out := io.Pipe()
	defer out.Close()
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	go func() {
		code <- cli.Run(ctx, newCommand(), []string{"import", "--nar", "-", "--name", "x"}, cli.Streams{In: in, Out: io.Discard, Err: io.Discard})
	}()
	if _, err := out.Write(dump(t, sampleTree(t))[:1000]); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case c := <-code:
		if c != 1 {
			t.Errorf("exit %d", c)
		}
	case <-time.After(time.Minute):
		t.Fatal("the import waits for its input")
	}
}
