package fragment

// Base are the options that make a kernel built for fragments a small one. They
// say how it is made, not what it can do: whatever a fragment or a user asks for
// goes before them.
func Base(arch Arch) []Option {
	var out []Option
	for _, o := range []Option{
		recommended("EXPERT", "what no fragment asks for is left out, even where it is on by default"),
		recommended("NO_HZ_IDLE", "no ticks on an idle CPU: the way to NO_HZ_COMMON"),
		recommended("KERNEL_ZSTD", "a tenth smaller than gzip, and faster to unpack").on(AMD64),
		recommended("UNWINDER_GUESS", "no tables for exact traces, a tenth of the image; fragment debug has them").on(AMD64),
		recommended("IO_DELAY_NONE", "devices of a VM need no pauses between accesses").on(AMD64),
	} {
		if o.Arch == "" || o.Arch == arch {
			out = append(out, o)
		}
	}
	return out
}
