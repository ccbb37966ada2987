package bootcheck

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"storeboot/internal/kconfig"
	"storeboot/internal/newc"
	"storeboot/mkinitrd/compress"
	"storeboot/mkinitrd/unpack"
)

// program is an ELF file of the machine, with an interpreter if that is given.
func program(m elf.Machine, interp string) string {
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(m), Version: 1, Ehsize: 64, Phentsize: 56, Phoff: 64}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	var b bytes.Buffer
	if interp != "" {
		h.Phnum = 1
	}
	_ = binary.Write(&b, binary.LittleEndian, h)
	if interp != "" {
		n := uint64(len(interp) + 1)
		_ = binary.Write(&b, binary.LittleEndian, elf.Prog64{Type: uint32(elf.PT_INTERP), Off: 64 + 56, Filesz: n, Memsz: n})
		b.WriteString(interp + "\x00")
	}
	return b.String()
}

// mod is a module with the lines of .modinfo.
func mod(info ...string) string {
	text := strings.Join(info, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	h := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64, Shnum: 3, Shstrndx: 2}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1
	h.Shoff = uint64(64 + len(text) + len(names))
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, h)
	b.WriteString(text + names)
	for _, s := range []elf.Section64{
		{}, {Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(text))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(text)), Size: uint64(len(names))},
	} {
		_ = binary.Write(&b, binary.LittleEndian, s)
	}
	return b.String()
}

type file struct {
	name string
	mode uint32
	data string
}

// image is an archive with all directories that the files need.
func image(t testing.TB, files []file) string {
	t.Helper()
	var b bytes.Buffer
	w := newc.NewWriter(&b)
	made := map[string]bool{".": true}
	var add func(name string, mode uint32, data string)
	add = func(name string, mode uint32, data string) {
		if dir := filepath.Dir(name); !made[dir] {
			add(dir, newc.TypeDirectory|0o755, "")
		}
		made[name] = true
		if err := w.WriteHeader(&newc.Header{Name: name, Mode: mode, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range files {
		add(strings.TrimPrefix(f.name, "/"), f.mode, f.data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func check(t testing.TB, img string, k Kernel) []Finding {
	t.Helper()
	spool := new(unpack.Spool)
	defer spool.Close()
	r, err := unpack.Run(strings.NewReader(img), unpack.Kernel{Lacks: k.Config.Lacks()}, spool)
	if err != nil {
		t.Fatal(err)
	}
	return Check(r, k)
}

const (
	release = "6.1.0-9-test"
	exe     = newc.TypeRegular | 0o755
	plain   = newc.TypeRegular | 0o644
	link    = newc.TypeSymlink | 0o777
)

// config has all that init needs built in, and the drivers as modules.
func config(t testing.TB, more ...string) *Config {
	t.Helper()
	text := "# a comment\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_ZSTD=y\nCONFIG_RD_GZIP=y\nCONFIG_BINFMT_SCRIPT=y\n" +
		"CONFIG_VIRTIO_PCI=m\nCONFIG_FUSE_FS=m\nCONFIG_VIRTIO_FS=m\nCONFIG_OVERLAY_FS=m\n"
	for _, n := range needs {
		text += "CONFIG_" + n.option + "=y\n"
	}
	c, err := kconfig.Parse(strings.NewReader(text + strings.Join(more, "\n") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return &Config{"test", c}
}

func spec(modules ...string) string {
	var list []string
	for _, m := range modules {
		list = append(list, fmt.Sprintf(`{"name":%q,"path":"/lib/modules/%s/%s.ko"}`, m, release, m))
	}
	return `{"version":1,"kernel":"` + release + `","modules":[` + strings.Join(list, ",") + `]}`
}

func TestCheck(t *testing.T) {
	initAt := file{"init", exe, program(elf.EM_X86_64, "")}
	place := func(name string, info ...string) file {
		return file{"lib/modules/" + release + "/" + name + ".ko", plain, mod(append([]string{"vermagic=" + release + " SMP mod_unload "}, info...)...)}
	}
	mods := []file{place("virtio_pci", "depends="), place("fuse", "depends="), place("virtiofs", "depends=fuse")}
	boot := func(json string) file { return file{"etc/storeboot/boot.json", plain, json} }
	good := append([]file{initAt, boot(spec("virtio_pci", "fuse", "virtiofs"))}, mods...)
	with := func(more ...file) []file { return append(slices.Clone(good), more...) }
	k := Kernel{Release: release, Arch: "amd64", Config: config(t), Builtin: map[string]bool{"ext4": true}}
	tests := []struct {
		name   string
		files  []file
		kernel func(*Kernel)
		level  Level
		want   string // in a finding of that level; "" is no finding at all
	}{
		{"good", good, nil, "", ""},
		{"another builder's", []file{initAt}, nil, "", ""},
		{"no init", mods, nil, Error, "/init: is missing"},
		{"init leads nowhere", []file{{"init", link, "bin/none"}}, nil, Error, "leads nowhere"},
		{"init is a directory", []file{{"init", newc.TypeDirectory | 0o755, ""}}, nil, Error, "no regular file"},
		{"not executable", []file{{"init", plain, program(elf.EM_X86_64, "")}}, nil, Error, "not executable (mode 0644)"},
		{"other machine", []file{{"init", exe, program(elf.EM_AARCH64, "")}}, nil, Error, "EM_AARCH64"},
		{"text", []file{{"init", exe, "hello"}}, nil, Error, "neither an ELF program nor a script"},
		{"empty", []file{{"init", exe, ""}}, nil, Error, "neither an ELF program nor a script"},
		{"damaged", []file{{"init", exe, "\x7fELF\x02\x01\x01"}}, nil, Error, "damaged"},
		{"no loader", []file{{"init", exe, program(elf.EM_X86_64, "/lib64/ld.so")}}, nil, Error, "loader /lib64/ld.so"},
		{"loader", []file{{"init", exe, program(elf.EM_X86_64, "/lib64/ld.so")}, {"lib64", link, "usr/lib"}, {"usr/lib/ld.so", exe, program(elf.EM_X86_64, "")}}, nil, "", ""},
		{"script", []file{{"init", exe, "#! /bin/sh -e\n"}, {"bin/sh", exe, program(elf.EM_X86_64, "")}}, nil, "", ""},
		{"script of nothing", []file{{"init", exe, "#!/bin/sh\n"}}, nil, Error, "/bin/sh: which /init is run by, is missing"},
		{"script in a circle", []file{{"init", exe, "#!/init\n"}}, nil, Error, "more than 5 interpreters"},
		{"no scripts", []file{{"init", exe, "#!/sh\n"}, {"sh", exe, program(elf.EM_X86_64, "")}}, func(k *Kernel) { k.Config = config(t, "CONFIG_BINFMT_SCRIPT=n") }, Error, "BINFMT_SCRIPT is off"},
		{"other kernel's module", with(file{"lib/x.ko", plain, mod("vermagic=5.10.0 SMP")}), nil, Error, "is for kernel 5.10.0"},
		{"module of nothing", with(file{"lib/x.ko", plain, "text"}), nil, Error, "no module that can be loaded"},
		{"packed module", with(file{"lib/x.ko.zst", plain, zst(t, mod("vermagic=5.10.0 SMP"))}), nil, Error, "is for kernel 5.10.0"},
		{"missing dependency", with(place("y", "depends=ext4,no-such")), nil, Error, "depends on the module no_such"},
		{"wrong order", append([]file{initAt, boot(spec("virtio_pci", "virtiofs", "fuse"))}, mods...), nil, Error, "loaded before fuse"},
		{"not in the plan", append([]file{initAt, boot(spec("virtio_pci", "fuse"))}, mods...), nil, Error, "virtiofs, which mounts the store, is not loaded"},
		{"module of the plan", with()[:3], nil, Error, "is to be loaded, and is not in the image"},
		{"built in", []file{initAt, boot(spec())}, func(k *Kernel) {
			k.Config = config(t, "CONFIG_VIRTIO_PCI=y", "CONFIG_FUSE_FS=y", "CONFIG_VIRTIO_FS=y")
		}, "", ""},
		{"built in, by the list", []file{initAt, boot(spec())}, func(k *Kernel) { k.Builtin = map[string]bool{"virtio_pci": true, "fuse": true, "virtiofs": true} }, "", ""},
		{"no virtio-fs", []file{initAt, boot(spec())}, func(k *Kernel) { k.Config = config(t, "CONFIG_VIRTIO_FS=n") }, Error, "lacks CONFIG_VIRTIO_FS"},
		{"no devtmpfs", good, func(k *Kernel) { k.Config = config(t, "CONFIG_DEVTMPFS=n") }, Error, "CONFIG_DEVTMPFS"},
		{"no initrd", good, func(k *Kernel) { k.Config = config(t, "CONFIG_BLK_DEV_INITRD=n") }, Error, "takes no initrd"},
		{"other kernel", good, func(k *Kernel) { k.Release = "6.2" }, Error, "made for kernel " + release},
		{"bad plan", []file{initAt, boot(`{"version":1,"modlues":[]}`)}, nil, Error, "modlues"},
		{"mount", append([]file{initAt, boot(strings.Replace(spec("virtio_pci", "fuse", "virtiofs"), `{"version":1`, `{"version":1,"mounts":[{"source":"x","target":"/x","type":"overlay"}]`, 1))}, mods...), nil, Error, "is mounted on /x"},
		{"shell", append([]file{initAt, boot(strings.Replace(spec("virtio_pci", "fuse", "virtiofs"), `{"version":1`, `{"version":1,"shell":["/bin/sh"]`, 1))}, mods...), nil, Error, "/bin/sh: the shell is missing"},
		{"no configuration", good, func(k *Kernel) { k.Config = nil }, Note, "--config"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := k
			if tt.kernel != nil {
				tt.kernel(&k)
			}
			list := check(t, image(t, tt.files), k)
			if tt.want == "" {
				if len(list) > 0 {
					t.Errorf("findings %v, want none", list)
				}
				return
			}
			if !slices.ContainsFunc(list, func(f Finding) bool { return f.Level == tt.level && strings.Contains(f.String(), tt.want) }) {
				t.Errorf("findings %v, want %s %q", list, tt.level, tt.want)
			}
			if Worst(list) != tt.level {
				t.Errorf("worst is %s", Worst(list))
			}
		})
	}
	// What the unpacker does comes first.
	if list := check(t, "junk"+image(t, good), k); len(list) == 0 || !strings.Contains(list[0].Text, "stops unpacking") {
		t.Errorf("junk: %v", list)
	}
	if list := check(t, zst(t, image(t, good)), Kernel{Config: config(t, "CONFIG_RD_ZSTD=n")}); len(list) == 0 || !strings.Contains(list[0].Text, "zstd not configured") {
		t.Errorf("zstd: %v", list)
	}
}

func zst(t testing.TB, s string) string {
	t.Helper()
	var b bytes.Buffer
	w, err := compress.NewWriter(&b, compress.Zstd, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(s)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestConfigInKernel finds a configuration in a kernel image, plain and packed.
func TestConfigInKernel(t *testing.T) {
	var g bytes.Buffer
	w := gzip.NewWriter(&g)
	if _, err := w.Write([]byte("CONFIG_RD_XZ=y\nCONFIG_VIRTIO_FS=m\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// The marks lie across the reader's pieces.
	vmlinux := strings.Repeat("k", 1<<20-4) + "IKCFG_ST" + g.String() + "IKCFG_ED" + strings.Repeat("k", 1000)
	head := make([]byte, 1024)
	copy(head[0x202:], "HdrS")
	packed := zst(t, vmlinux) + "\x00\x00\x00\x00" // its unpacked length
	binary.LittleEndian.PutUint16(head[0x206:], 0x20f)
	head[0x1f1] = 1
	binary.LittleEndian.PutUint32(head[0x24c:], uint32(len(packed)))
	for name, kernel := range map[string]string{"vmlinux": vmlinux, "bzImage": string(head) + packed} {
		dir := t.TempDir()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(kernel), 0o644); err != nil {
			t.Fatal(err)
		}
		c, err := FindConfig(path, "1")
		if err != nil || c == nil || !c.On("RD_XZ") || c.Get("VIRTIO_FS") != kconfig.Module || c.On("RD_ZSTD") || c.From != path {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		// The file beside it counts first.
		if err := os.WriteFile(filepath.Join(dir, "config-1"), []byte("CONFIG_RD_ZSTD=y\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if c, err := FindConfig(path, "1"); err != nil || !c.On("RD_ZSTD") || slices.Contains(c.Lacks(), compress.Zstd) || !slices.Contains(c.Lacks(), compress.XZ) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		if c, err := ConfigBeside(path, "2"); c != nil || err != nil {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
}

func FuzzCheck(f *testing.F) {
	files := []file{
		{"init", exe, program(elf.EM_X86_64, "/ld")}, {"ld", exe, "#!/init"}, {"m.ko", plain, mod("vermagic=1", "depends=a,b")},
		{"etc/storeboot/boot.json", plain, spec("m")},
	}
	k := Kernel{Release: release, Arch: "amd64", Config: config(f)}
	if list := check(f, image(f, files), k); len(list) < 4 {
		f.Fatalf("a seed does not reach the code: %v", list)
	}
	for i := range files {
		f.Add(i, []byte(files[i].data))
	}
	f.Fuzz(func(t *testing.T, i int, data []byte) {
		list := slices.Clone(files)
		list[uint(i)%uint(len(list))].data = string(data)
		check(t, image(t, list), k)
	})
}
