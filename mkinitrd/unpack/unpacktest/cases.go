package unpacktest

import (
	"strings"

	"github.com/ulikunitz/xz"

	"storeboot/mkinitrd/unpack"
)

// Case is an image, and what a kernel makes of it.
type Case struct {
	Name  string
	Image string
	// Boots says that /init is run; if not, the kernel panics.
	Boots bool
	// Message is what the model says that the kernel prints.
	Message string
	// Losses are words of the model's warnings.
	Losses []string
}

// Cases are the images; init is the program that is /init in all that have one.
func Cases(init string) []Case {
	first := Entry{Name: "init", Mode: 0o100755, Data: init}
	a := file("a", "the file a\n")
	text := strings.Repeat("some text that packs well\n", 200)
	long := strings.Repeat("n", 255)
	half := func(s string) string { return s[:len(s)/2] }
	good := closed(first, a)
	return []Case{
		// Formats and their sequence.
		{"plain", good, true, "", nil},
		{"zstd", zst(good), true, "", nil},
		{"gzip", gz(good), true, "", nil},
		{"xz with CRC32", xzSum(good, xz.CRC32), true, "", nil},
		{"xz with CRC64", xzSum(good, xz.CRC64), false, unpack.MsgDecode, nil},
		{"lzma", lzma1(good), true, "", nil},
		{"lz4 legacy", lz4Legacy(good), true, "", nil},
		{"lz4 frame", "\x04\x22\x4d\x18" + good, false, unpack.MsgInvalid, nil},
		{"gzip with an extra field", gzExtra(good), false, unpack.MsgDecode, nil},
		{"zstd after a skippable frame", "\x50\x2a\x4d\x18\x04\x00\x00\x00\x00\x00\x00\x00" + zst(good), false, unpack.MsgInvalid, nil},
		{"microcode, then zstd", closed(dir("kernel"), dir("kernel/x86"), file("kernel/x86/x", "early")) + zst(good), true, "", nil},
		{"two whole frames", zst(closed(first)) + zst(closed(a)), true, "", nil},
		{"one archive in two frames", zst(open(first)+"07070") + zst(closed(a)), true, unpack.MsgJunkEnd, nil},
		{"zstd, then raw in place", pad(zst(closed(first))) + closed(a), true, "", nil},
		{"zstd, then raw out of place", pad(zst(closed(first))) + "\x00" + closed(a), true, unpack.MsgInvalid, nil},
		{"raw, then raw out of place", closed(first) + "\x00\x00" + closed(a), true, unpack.MsgPadding, nil},
		{"raw, zeros, gzip anywhere", closed(first) + "\x00\x00\x00" + gz(closed(a)), true, unpack.MsgPadding, nil},
		{"raw, zeros, gzip in place", closed(first) + zeros(508) + gz(closed(a)), true, "", nil},
		{"lz4, then gzip", lz4Legacy(closed(first)) + gz(closed(a)), true, unpack.MsgDecode, nil},
		{"lz4, zeros, gzip", lz4Legacy(closed(first)) + zeros(4) + gz(closed(a)), true, "", nil},
		{"junk at the end", good + "junk", true, unpack.MsgInvalid, nil},
		{"junk in a stream", zst(closed(first) + "junk"), true, unpack.MsgJunkIn, nil},
		{"zeros at the end", good + zeros(1000), true, "", nil},
		{"only zeros", zeros(1024), false, "", nil},
		{"text", "hello, this is no initrd", false, unpack.MsgInvalid, nil},
		{"old cpio", "070707" + good[6:], false, unpack.MsgOldCpio, nil},

		// Archives that are cut off or damaged.
		{"no end mark", open(first, a), true, "", nil},
		{"cut in a file", open(first) + a.bytes()[:120], true, "", []string{"after 8 of its 11 bytes", "ends inside an entry"}},
		{"cut in init", half(open(first)), false, "", []string{"the rest is zero", "ends inside an entry"}},
		{"cut in a header", open(first, a) + "0707010000", true, "", []string{"ends inside an entry"}},
		{"stream cut in a header", gz(open(first, a) + "0707010000"), true, unpack.MsgJunkEnd, nil},
		{"gzip cut off", half(gz(closed(first, file("t", text), a))), false, unpack.MsgDecode, nil},
		{"gzip with a wrong checksum", flip(gz(good), len(gz(good))-5), true, "", []string{"checksum of the gzip stream"}},
		{"no magic", open(first) + "070703" + closed(a)[6:], true, unpack.MsgNoMagic, nil},
		{"checksum", closed(first, Entry{Name: "a", Mode: 0o100644, Data: "data", Magic: "070702", Sum: 0x19a}), true, "", nil},
		{"wrong checksum", closed(first, Entry{Name: "a", Mode: 0o100644, Data: "data", Magic: "070702", Sum: 1}, file("b", "")), true, unpack.MsgSum, nil},
		{"name without NUL", closed(first, Entry{Name: "abc", Mode: 0o100644, NoNUL: true}, a), true, unpack.MsgMalformed, nil},
		{"digits that are none", closed(first, Entry{Name: "x", Mode: 0o100644, Field: "0000001g"}, Entry{Name: "y", Mode: 0o100644, Field: "0x000010"}), true, "", nil},
		{"missing padding", closed(first, Entry{Name: "x", Mode: 0o100644, Data: "12345", Ragged: true}, a), true, unpack.MsgInvalid, nil},
		{"gap of 4", closed(first, Entry{Name: "x", Mode: 0o100644, Gap: 4}, a), true, "", nil},
		{"gap of 2", closed(first, Entry{Name: "x", Mode: 0o100644, Gap: 2}, a), true, unpack.MsgPadding, nil},

		// Entries that the kernel drops.
		{"no directory", closed(first, file("no/dir/file", "x"), file("dev/there", "x"), a), true, "", []string{"directory /no"}},
		{"directory with data", closed(first, Entry{Name: "d", Mode: 0o040755, Data: "data"}, a), true, "", []string{"4 bytes of data"}},
		{"long target", closed(first, link("l", strings.Repeat("t", 4097)), a), true, "", []string{"4097 bytes"}},
		{"long name", closed(first, file(strings.Repeat("n/", 2048), ""), a), true, "", []string{"4097 bytes"}},
		{"long component", closed(first, file(long, ""), file(long+"n", ""), a), true, "", []string{"255 bytes"}},
		{"no type", closed(first, Entry{Name: "x", Mode: 0o644}, a), true, "", []string{"no file type"}},
		{"through a file", closed(first, a, file("a/b", "")), true, "", []string{"no directory"}},
		{"loop", closed(first, link("l", "l"), file("l/x", "")), true, "", []string{"circle"}},

		// Names and what is in their place.
		{"odd names", closed(Entry{Name: ".", Mode: 0o040711}, Entry{Name: "/init", Mode: 0o100755, Data: init}, dir("./d"), dir("d//e/"),
			file("d/../../d/e/f", "f"), Entry{Name: "padded", Mode: 0o100644, NameSize: 64, Data: "x"}), true, "", nil},
		{"modes and owners", closed(first, Entry{Name: "s", Mode: 0o104755, UID: 12, GID: 34}, Entry{Name: "t", Mode: 0o041777, UID: 5},
			node("fifo", 0o010620, 0, 0), node("sock", 0o140600, 0, 0), node("blk", 0o060640, 7, 300), node("chr", 0o020666, 1, 3),
			Entry{Name: "lo", Mode: 0o120777, UID: 9, Data: "a"}), true, "", nil},
		{"replaced", closed(first, file("f", "old"), file("f", "new one"), link("l", "x"), link("l", "y"), link("m", "f"), file("m", "file"),
			file("g", "x"), dir("g"), dir("h"), file("h", "was a directory"), Entry{Name: "g", Mode: 0o040700}), true, "", nil},
		{"full directory in place", closed(first, dir("d"), file("d/x", ""), file("d", "file"), link("d", "x")), true, "", []string{"in its place"}},
		{"device in place", closed(first, node("c", 0o020600, 1, 3), node("c", 0o020666, 1, 5)), true, "", []string{"keeps its number"}},
		{"through links", closed(first, dir("usr"), dir("usr/lib"), link("lib", "usr/lib"), link("abs", "/usr"), file("lib/x", "x"),
			file("abs/lib/../y", "y")), true, "", nil},

		// Hard links.
		{"links, data first", closed(first, linked("x", 2, 7, "data"), linked("y", 2, 7, "")), true, "", nil},
		{"links, data last", closed(first, linked("x", 3, 7, ""), linked("y", 3, 7, ""), linked("z", 3, 7, "data")), true, "", nil},
		{"links, data twice", closed(first, linked("x", 2, 7, "longer data"), linked("y", 2, 7, "short")), true, "", []string{"written over"}},
		{"one inode, one link", closed(first, linked("x", 1, 7, "1"), linked("y", 1, 7, "2")), true, "", nil},
		{"links across archives", open(first, linked("x", 2, 7, "data")) + zeros(8) + closed(linked("y", 2, 7, "")), true, "", nil},
		{"links across an end mark", closed(first, linked("x", 2, 7, "data")) + closed(linked("y", 2, 7, "")), true, "", nil},
		{"link to nothing", closed(first, linked("no/x", 2, 7, ""), linked("y", 2, 7, "data")), true, "", []string{"another name"}},
		{"linked devices", closed(first, Entry{Name: "p", Mode: 0o010600, NLink: 2, Ino: 9}, Entry{Name: "q", Mode: 0o010600, NLink: 2, Ino: 9}), true, "", nil},

		// init itself.
		{"no init", closed(a), false, "", nil},
		{"init not executable", closed(Entry{Name: "init", Mode: 0o100644, Data: init}), false, "", nil},
		{"init is a link", closed(dir("bin"), Entry{Name: "bin/x", Mode: 0o100755, Data: init}, link("init", "bin/x")), true, "", nil},
		{"init in a lost directory", closed(Entry{Name: "bin/x", Mode: 0o100755, Data: init}, link("init", "bin/x")), false, "", []string{"directory /bin"}},
		{"init in the second segment", zst(closed(a)) + gz(closed(first)), true, "", nil},
	}
}
