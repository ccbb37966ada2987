package narcodec

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/ulikunitz/xz"
)

// TestXZGuard passes files of the xz program through, with several streams and
// blocks and of data that does not compress, and refuses a large dictionary
// wherever it is.
func TestXZGuard(t *testing.T) {
	if _, err := exec.LookPath("xz"); err != nil {
		t.Skip("SKIP: xz is missing (apt-get install xz-utils)")
	}
	random := make([]byte, 200_000)
	for i, x := 0, uint32(1); i < len(random); i++ {
		x = x*1664525 + 1013904223
		random[i] = byte(x >> 24)
	}
	data := string(random) + strings.Repeat("compresses well ", 10_000)
	pack := func(s string, args ...string) string {
		cmd := exec.Command("xz", append([]string{"-c"}, args...)...)
		cmd.Stdin = strings.NewReader(s)
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	large := pack(data, "--lzma2=preset=0,dict=256MiB")
	for _, tt := range []struct {
		name, file string
		plain      string
		ok         bool
	}{
		{"one block", pack(data), data, true},
		{"best", pack(data, "-9e"), data, true},
		{"blocks with lengths", pack(data, "-T2", "--block-size=65536"), data, true},
		{"no check", pack(data, "--check=none"), data, true},
		{"sha256", pack(data, "--check=sha256", "--block-size=100001"), data, true},
		{"empty", pack(""), "", true},
		{"large dictionary", large, "", false},
	} {
		for _, slow := range []bool{false, true} {
			in := io.Reader(strings.NewReader(tt.file))
			if slow {
				in = iotest.OneByteReader(in)
			}
			g := &xzGuard{r: in}
			if !tt.ok {
				if _, err := io.Copy(io.Discard, g); !errors.Is(err, errXZDictionary) {
					t.Errorf("%s: %v", tt.name, err)
				}
				continue
			}
			d, err := xz.NewReader(g)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			got, err := io.ReadAll(d)
			if err != nil || !bytes.Equal(got, []byte(tt.plain)) {
				t.Errorf("%s: %d bytes of %d: %v", tt.name, len(got), len(tt.plain), err)
			}
			if g.state != xzStreamHeader || g.skip != 0 || len(g.head) != 0 {
				t.Errorf("%s: the guard did not follow it to its end", tt.name)
			}
		}
	}
	// The last of three blocks, and a second stream.
	blocks := pack(strings.Repeat("compresses well ", 10_000), "-T2", "--block-size=65536", "--lzma2=preset=0,dict=64KiB")
	if n := strings.Count(blocks, "\x21\x01"); n != 3 {
		t.Fatalf("%d blocks, want 3", n)
	}
	bad := []byte(blocks)
	bad[strings.LastIndex(blocks, "\x21\x01")+2] = 40
	if _, err := io.Copy(io.Discard, &xzGuard{r: bytes.NewReader(bad)}); !errors.Is(err, errXZDictionary) {
		t.Errorf("large dictionary of the last block: %v", err)
	}
	if _, err := io.Copy(io.Discard, &xzGuard{r: strings.NewReader(pack("x") + "\x00\x00\x00\x00" + large)}); !errors.Is(err, errXZDictionary) {
		t.Errorf("large dictionary of the second stream: %v", err)
	}
}
