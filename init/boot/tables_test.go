package boot

import (
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

func TestMountOptions(t *testing.T) {
	tests := []struct {
		options string
		flags   uintptr
		data    string
	}{
		{"", 0, ""},
		{"defaults", 0, ""},
		{"ro,nodev,nosuid", unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOSUID, ""},
		{"ro,rw", 0, ""},
		{"noexec,exec,size=5%,,mode=755", 0, "size=5%,mode=755"},
		{"strictatime,lazytime,noatime,atime", unix.MS_STRICTATIME | unix.MS_LAZYTIME, ""},
		{"rbind", unix.MS_BIND | unix.MS_REC, ""},
		{"nosymfollow,trans=virtio,version=9p2000.L", msNoSymFollow, "trans=virtio,version=9p2000.L"},
		{"relatime,nodiratime,sync,dirsync,silent", unix.MS_RELATIME | unix.MS_NODIRATIME | unix.MS_SYNCHRONOUS | unix.MS_DIRSYNC | unix.MS_SILENT, ""},
		{"nosuid,suid,nodev,dev,sync,async,diratime,norelatime,nostrictatime,nolazytime,loud", 0, ""},
	}
	for _, tt := range tests {
		if flags, data := mountOptions(tt.options); flags != tt.flags || data != tt.data {
			t.Errorf("%s: %#x %q, want %#x %q", tt.options, flags, data, tt.flags, tt.data)
		}
	}
}

func TestPrintable(t *testing.T) {
	tests := []struct {
		text  string
		limit int
		want  string
	}{
		{"plain ünï", 100, "plain ünï"},
		{"two\nlines\tand\rmore", 100, "two lines and more"},
		{"\x1b[31mred\x7f", 100, "?[31mred?"},
		{"abcdefgh", 8, "abcdefgh"},
		{"abcdefghi", 8, "abcde..."},
		{"abcdüüü", 8, "abcd..."},
		{"\xff", 8, "\ufffd"},
	}
	for _, tt := range tests {
		if got := printable(tt.text, tt.limit); got != tt.want {
			t.Errorf("%q, %d: %q, want %q", tt.text, tt.limit, got, tt.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("two\nlines", 8)
	f.Add("\xff\x00ü", 3)
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if limit < 3 || limit > 1<<20 {
			t.Skip("SKIP: no limit that is used")
		}
		got := printable(text, limit)
		if len(got) > limit || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.Errorf("%q", got)
		}
	})
}

func TestStorePath(t *testing.T) {
	for name, want := range map[string]string{
		"/nix/store/x/bin/y":      "/nix/store/x",
		"/nix/store/x":            "/nix/store/x",
		"/nix/store//x/../z/a":    "/nix/store/z",
		"/nix/store":              "",
		"/nix/store/../bin/sh":    "",
		"/nix/storex/y":           "",
		"/bin/sh":                 "",
		"/nix/store/x/../../../y": "",
	} {
		if got := storePath(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	const path, home = "PATH=/bin:/sbin:/usr/bin:/usr/sbin", "HOME=/root"
	tests := []struct {
		name, console, active string
		env                   []string
		want                  []string
	}{
		{"serial line", "", "tty0 ttyS0\n", nil, []string{path, home, "TERM=vt220"}},
		{"kernel's terminal", "", "ttyS0 tty0\n", nil, []string{path, home, "TERM=linux"}},
		{"named", "hvc0", "tty0", nil, []string{path, home, "TERM=vt220"}},
		{"unknown", "", "", nil, []string{path, home, "TERM=vt220"}},
		{"given", "", "", []string{"A=1", "TERM=xterm", "A=2=3", "PATHS=x"}, []string{path, home, "TERM=xterm", "A=2=3", "PATHS=x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, "")
			f.files["/sys/class/tty/console/active"] = tt.active
			b := &boot{sys: f, params: bootproto.Params{Console: tt.console}}
			if tt.env != nil {
				b.run = &bootproto.RunSpec{Env: tt.env}
			}
			if got := b.environment(); !slices.Equal(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
