package elfdep

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const loader = "/lib64/ld-linux-x86-64.so.2"

// list is what the items are, one a word.
func (r *tree) list(items []Item) string {
	var out []string
	for _, it := range items {
		s := it.Path
		if it.Target != "" {
			s += "->" + it.Target
		} else if src := strings.TrimPrefix(it.Source, r.dir); src != it.Path {
			s += "=" + src
		}
		out = append(out, s)
	}
	return strings.Join(out, " ")
}

func TestAdd(t *testing.T) {
	tests := []struct {
		name   string
		build  func(*tree)
		dlopen Priority
		want   string
		err    string
	}{
		{"static", func(r *tree) { r.elf("bin/x", made{}) }, 0, "/bin/x", ""},
		{"libraries through libraries", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"liba.so.1"}})
			r.elf("usr/lib/liba.so.1.2", made{needed: []string{"libc.so.6"}})
			r.link("usr/lib/liba.so.1", "liba.so.1.2")
			r.elf("lib/x86_64-linux-gnu/libc.so.6", made{needed: []string{"ld-linux-x86-64.so.2"}})
		}, 0, "/bin/x " + loader + " /usr/lib/liba.so.1=/usr/lib/liba.so.1.2 /lib/x86_64-linux-gnu/libc.so.6", ""},
		{"one file under two names", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"/lib/a.so", "/usr/lib/a.so"}})
			r.elf("usr/lib/a.so", made{})
			r.link("lib", "usr/lib")
		}, 0, "/bin/x " + loader + " /lib/a.so=/usr/lib/a.so /usr/lib/a.so->/lib/a.so", ""},
		{"runpath is the object's own", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}, runpath: "/opt/a"})
			r.elf("opt/a/a.so", made{needed: []string{"b.so"}})
			r.elf("opt/a/b.so", made{})
		}, 0, "", "library b.so, which /opt/a/a.so needs: not found"},
		{"rpath is for all below", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}, rpath: "/none:/opt/a"})
			r.elf("opt/a/a.so", made{needed: []string{"b.so"}})
			r.elf("opt/a/b.so", made{})
			r.elf("lib/b.so", made{})
		}, 0, "/bin/x " + loader + " /opt/a/a.so /opt/a/b.so", ""},
		{"rpath beside a runpath does not count", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}, rpath: "/opt/a", runpath: "/opt/b"})
			r.elf("opt/a/a.so", made{})
			r.elf("opt/b/a.so", made{})
		}, 0, "/bin/x " + loader + " /opt/b/a.so", ""},
		{"origin", func(r *tree) {
			r.elf("app/bin/real", made{interp: loader, needed: []string{"a.so", "b.so"}, runpath: "$ORIGIN/../$LIB:${ORIGIN}/../p"})
			r.link("bin/x", "../app/bin/real")
			r.elf("app/lib64/a.so", made{})
			r.elf("app/p/b.so", made{})
		}, 0, "/bin/x=/app/bin/real " + loader + " /lib64/a.so=/app/lib64/a.so /p/b.so=/app/p/b.so", ""},
		{"another machine's is passed over", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}, runpath: "/opt/a:/opt/b"})
			r.elf("opt/a/a.so", made{machine: elf.EM_AARCH64})
			r.elf("opt/b/a.so", made{})
		}, 0, "/bin/x " + loader + " /opt/b/a.so", ""},
		{"another architecture", func(r *tree) {
			r.elf("bin/x", made{machine: elf.EM_AARCH64, interp: "/lib/ld-linux-aarch64.so.1", needed: []string{"a.so"}})
			r.elf("lib/ld-linux-aarch64.so.1", made{machine: elf.EM_AARCH64})
			r.elf("usr/lib/aarch64-linux-gnu/a.so", made{machine: elf.EM_AARCH64})
			r.elf("usr/lib/a.so", made{})
		}, 0, "/bin/x /lib/ld-linux-aarch64.so.1 /usr/lib/aarch64-linux-gnu/a.so", ""},
		{"musl", func(r *tree) {
			r.elf("bin/x", made{interp: "/lib/ld-musl-x86_64.so.1", needed: []string{"a.so"}})
			r.elf("lib/ld-musl-x86_64.so.1", made{})
			r.write("etc/ld-musl-x86_64.path", []byte("/opt/musl\n/more"))
			r.elf("more/a.so", made{})
			r.elf("lib/a.so", made{})
		}, 0, "/bin/x /lib/ld-musl-x86_64.so.1 /more/a.so", ""},
		{"ld.so.conf", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}})
			r.write("etc/ld.so.conf", []byte("# comment\ninclude ld.so.conf.d/*.conf\n"))
			r.write("etc/ld.so.conf.d/a.conf", []byte("/opt/conf # here\n"))
			r.elf("opt/conf/a.so", made{})
		}, 0, "/bin/x " + loader + " /opt/conf/a.so", ""},
		{"cycle of libraries", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"a.so"}})
			r.elf("lib/a.so", made{needed: []string{"b.so"}})
			r.elf("lib/b.so", made{needed: []string{"a.so"}})
		}, 0, "/bin/x " + loader + " /lib/a.so /lib/b.so", ""},
		{"script", func(r *tree) {
			r.write("bin/x", []byte("#! /bin/sh -e\n"))
			r.elf("bin/sh", made{interp: loader})
		}, 0, "/bin/x /bin/sh " + loader, ""},
		{"script of env", func(r *tree) {
			r.write("bin/x", []byte("#!/usr/bin/env -S A=b python3 -u\n"))
			r.elf("usr/bin/env", made{})
			r.elf("usr/bin/python3", made{})
		}, 0, "/bin/x /usr/bin/env /usr/bin/python3", ""},
		{"script of a script", func(r *tree) {
			r.write("bin/x", []byte("#!/bin/y"))
			r.write("bin/y", []byte("#!/bin/x\n"))
		}, 0, "/bin/x /bin/y", ""},
		{"script without interpreter", func(r *tree) { r.write("bin/x", []byte("#!/bin/none\n")) }, 0, "", "interpreter of the script: /bin/none: not found"},
		{"script of a relative one", func(r *tree) { r.write("bin/x", []byte("#!sh\n")) }, 0, "", "names no absolute path"},
		{"missing loader", func(r *tree) {
			r.elf("bin/x", made{interp: "/lib/none"})
		}, 0, "", "program /bin/x: interpreter: /lib/none: not found"},
		{"missing library", func(r *tree) {
			r.elf("bin/x", made{interp: loader, needed: []string{"none.so"}})
		}, 0, "", "library none.so, which /bin/x needs: not found"},
		{"notes", func(r *tree) {
			r.elf("bin/x", made{interp: loader, note: `[{"soname":["no.so","a.so"],"priority":"recommended","feature":"f"},{"soname":["b.so"],"priority":"suggested"},{"soname":["none.so"]}]`})
			r.elf("lib/a.so", made{})
			r.elf("lib/b.so", made{})
		}, Recommended, "/bin/x " + loader + " /lib/a.so", ""},
		{"suggested notes", func(r *tree) {
			r.elf("bin/x", made{interp: loader, note: `[{"soname":["b.so"],"priority":"suggested"}]`})
			r.elf("lib/b.so", made{})
		}, Suggested, "/bin/x " + loader + " /lib/b.so", ""},
		{"no notes", func(r *tree) {
			r.elf("bin/x", made{interp: loader, note: `[{"soname":["a.so"],"priority":"required"}]`})
		}, NoDlopen, "/bin/x " + loader, ""},
		{"required note", func(r *tree) {
			r.elf("bin/x", made{interp: loader, note: `[{"soname":["a.so"],"priority":"required"}]`})
		}, Required, "", "requires: library a.so"},
		{"damaged note", func(r *tree) {
			r.elf("bin/x", made{interp: loader, note: `[{`})
		}, Required, "", ".note.dlopen"},
		{"loop of links", func(r *tree) {
			r.link("bin/x", "y")
			r.link("bin/y", "x")
		}, 0, "", "more than 40 symbolic links"},
		{"link out of the root", func(r *tree) {
			r.link("bin/x", "../../../../../../app/x")
			r.elf("app/x", made{})
		}, 0, "/bin/x=/app/x", ""},
		{"a directory", func(r *tree) { r.write("bin/x/y", nil) }, 0, "", "not a regular file"},
		{"damaged", func(r *tree) { r.write("bin/x", made{}.bytes(r.t)[:100]) }, 0, "", "not a sound ELF file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newTree(t)
			tt.build(r)
			if _, err := os.Stat(r.dir + loader); err != nil {
				r.elf(loader, made{})
			}
			x, err := New(r.dir)
			if err != nil {
				t.Fatal(err)
			}
			err = x.Add("/bin/x", "/bin/x", false, tt.dlopen)
			if got := r.list(x.Items()); err == nil && got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
		})
	}
}

// cache makes a ld.so.cache of name and path pairs.
func cache(pairs ...string) []byte {
	le := binary.LittleEndian
	n := len(pairs) / 2
	b := append([]byte(cacheMagic), make([]byte, cacheHeader-len(cacheMagic))...)
	le.PutUint32(b[20:], uint32(n))
	text := []byte{}
	at := func(s string) uint32 {
		off := cacheHeader + n*cacheEntry + len(text)
		text = append(append(text, s...), 0)
		return uint32(off)
	}
	for i := range n {
		b = le.AppendUint32(b, 0x303)
		b = le.AppendUint32(b, at(pairs[2*i]))
		b = le.AppendUint32(b, at(pairs[2*i+1]))
		b = append(b, make([]byte, 12)...)
	}
	return append(b, text...)
}

func TestCache(t *testing.T) {
	r := newTree(t)
	r.elf("bin/x", made{interp: loader, needed: []string{"a.so", "c.so"}})
	r.elf(loader, made{})
	r.elf("opt/arm/a.so", made{machine: elf.EM_AARCH64})
	r.elf("opt/a/a.so", made{})
	r.elf("lib/a.so", made{})
	r.elf("lib/c.so", made{})
	r.write(cachePath, cache("a.so", "/opt/arm/a.so", "a.so", "/opt/a/a.so", "c.so", "/lib/c.so"))
	x, err := New(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := x.Add("/bin/x", "/bin/x", false, 0); err != nil {
		t.Fatal(err)
	}
	// The guest needs the cache, to find what is in none of the usual places.
	if got, want := r.list(x.Items()), "/bin/x "+loader+" /opt/a/a.so "+cachePath+" /lib/c.so"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	old := append([]byte(oldMagic), make([]byte, 4)...)
	if m, err := parseCache(append(old, cache("a", "/b")...)); err != nil || !slices.Equal(m["a"], []string{"/b"}) {
		t.Errorf("behind an old one: %v, %v", m, err)
	}
	whole := cache("a", "/b")
	for n := range whole {
		if _, err := parseCache(whole[:n]); err == nil {
			t.Fatalf("a cache cut at %d of %d was read", n, len(whole))
		}
	}
}

func TestServices(t *testing.T) {
	r := newTree(t)
	r.elf("bin/x", made{interp: loader})
	r.elf("bin/static", made{})
	r.elf(loader, made{})
	r.elf("lib/libnss_x.so.2", made{})
	x, err := New(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"/bin/x", "/bin/static"} {
		if err := x.Add(p, p, false, 0); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]error{"x": nil, "files": nil, "ldap": ErrNotFound} {
		if err := x.AddService(name, "/bin/x"); !errors.Is(err, want) {
			t.Errorf("service %s: %v, want %v", name, err, want)
		}
	}
	if err := x.AddService("ldap", "/bin/static"); err != nil {
		t.Errorf("a static program needs no service: %v", err)
	}
	if got := r.list(x.Items()); !strings.Contains(got, "/lib/libnss_x.so.2") {
		t.Errorf("items %s", got)
	}
}

// TestLoaderAgrees holds that we find what this machine's loader finds.
func TestLoaderAgrees(t *testing.T) {
	tool, err := exec.LookPath("ldd")
	if err != nil {
		t.Skip("SKIP: this machine lacks ldd (apt-get install libc-bin)")
	}
	for _, program := range []string{"bash", "grep", "cpio", "qemu-system-x86_64", "ip", "nix-build"} {
		x, err := New("")
		if err != nil {
			t.Fatal(err)
		}
		file, err := x.Find(program)
		if err != nil {
			t.Logf("%v", err)
			continue
		}
		if err := x.Add(file, file, false, NoDlopen); err != nil {
			t.Errorf("%s: %v", program, err)
			continue
		}
		out, err := exec.Command(tool, file).Output()
		if err != nil {
			continue // static
		}
		files := map[string]bool{}
		for _, it := range x.Items() {
			source := it.Source
			if source == "" {
				source, _ = filepath.EvalSymlinks(it.Path)
			}
			files[source] = true
		}
		for line := range strings.Lines(string(out)) {
			for _, w := range strings.Fields(line) {
				if !filepath.IsAbs(w) {
					continue
				}
				real, err := filepath.EvalSymlinks(w)
				if err != nil || !files[real] {
					t.Errorf("%s: the loader takes %s, we do not: %v", program, w, err)
				}
			}
		}
	}
}

// FuzzObject reads arbitrary files as programs.
func FuzzObject(f *testing.F) {
	whole := made{interp: loader, needed: []string{"a.so"}, rpath: "$ORIGIN", note: `[{"soname":["a.so"]}]`}.bytes(f)
	o := object{}
	if err := o.read(bytes.NewReader(whole)); err != nil || fmt.Sprint(o.needed, o.rpath, o.notes) != "[a.so] [$ORIGIN] [{[a.so]  2}]" {
		f.Fatalf("the seed does not reach the code: %+v, %v", o, err)
	}
	f.Add(whole)
	f.Fuzz(func(t *testing.T, data []byte) {
		o := object{}
		if err := o.read(bytes.NewReader(data)); err == nil && o.interp != "" && o.interp[0] != '/' {
			t.Errorf("interpreter %q", o.interp)
		}
	})
}

// FuzzCache reads arbitrary caches.
func FuzzCache(f *testing.F) {
	f.Add(cache("a.so", "/lib/a.so"))
	if m, err := parseCache(cache("a.so", "/lib/a.so")); err != nil || len(m) != 1 {
		f.Fatalf("the seed does not reach the code: %v, %v", m, err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := parseCache(data)
		if err != nil && m != nil {
			t.Error("both a cache and an error")
		}
	})
}
