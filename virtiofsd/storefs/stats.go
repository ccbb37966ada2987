package storefs

import (
	"iter"
	"math/bits"
	"strconv"
	"sync/atomic"
	"time"
)

// opcodes is one more than the highest FUSE opcode that is counted by itself
// (Linux 6.12 has 53); higher ones count as 0.
const opcodes = 64

// Buckets is the number of buckets of a latency histogram. Bucket i holds what
// took less than 2^i microseconds and is in no bucket before it; the last holds
// the rest.
const Buckets = 24

// Stats count the requests of a view's guests. All fields are to be read with
// their methods while requests go on.
type Stats struct {
	ops [opcodes]Op
	// ReadBytes are contents that went to guests.
	ReadBytes atomic.Uint64
	// Mounts and Sessions: FUSE_INITs so far, and connections now.
	Mounts   atomic.Uint64
	Sessions atomic.Int64
}

// Op counts the requests of one opcode.
type Op struct {
	// Count are all, Errors those that were answered with an error. Names that do
	// not exist are none.
	Count, Errors atomic.Uint64
	// Nanoseconds is the time that they took in all.
	Nanoseconds atomic.Uint64
	Histogram   [Buckets]atomic.Uint64
}

// Op is what was counted of an opcode.
func (s *Stats) Op(opcode uint32) *Op {
	if opcode >= opcodes {
		opcode = 0
	}
	return &s.ops[opcode]
}

// Used are the opcodes of which there were requests, with their names, or numbers
// where they have none.
func (s *Stats) Used() iter.Seq2[*Op, string] {
	return func(yield func(*Op, string) bool) {
		for i := range s.ops {
			if s.ops[i].Count.Load() == 0 {
				continue
			}
			name := OpcodeName(uint32(i))
			if name == "" {
				name = strconv.Itoa(i)
			}
			if !yield(&s.ops[i], name) {
				return
			}
		}
	}
}

// Total is the number of all requests.
func (s *Stats) Total() (n uint64) {
	for i := range s.ops {
		n += s.ops[i].Count.Load()
	}
	return n
}

func (s *Stats) add(opcode uint32, failed bool, took time.Duration) {
	o := s.Op(opcode)
	o.Count.Add(1)
	if failed {
		o.Errors.Add(1)
	}
	o.Nanoseconds.Add(uint64(took))
	o.Histogram[min(bits.Len64(uint64(took/time.Microsecond)), Buckets-1)].Add(1)
}

// Caches are the figures of the caches, which all views of a store share.
type Caches struct {
	// Hits are found in memory, or open; misses ask the store.
	DirectoryHits, DirectoryMisses atomic.Uint64
	// DirectoriesAhead are those that came before they were asked for.
	DirectoriesAhead     atomic.Uint64
	BlobHits, BlobMisses atomic.Uint64
}

// opcodeNames are Linux's names (uapi/linux/fuse.h), without FUSE_.
var opcodeNames = [...]string{
	0: "OTHER", 1: "LOOKUP", 2: "FORGET", 3: "GETATTR", 4: "SETATTR", 5: "READLINK", 6: "SYMLINK", 8: "MKNOD", 9: "MKDIR",
	10: "UNLINK", 11: "RMDIR", 12: "RENAME", 13: "LINK", 14: "OPEN", 15: "READ", 16: "WRITE", 17: "STATFS", 18: "RELEASE",
	20: "FSYNC", 21: "SETXATTR", 22: "GETXATTR", 23: "LISTXATTR", 24: "REMOVEXATTR", 25: "FLUSH", 26: "INIT", 27: "OPENDIR",
	28: "READDIR", 29: "RELEASEDIR", 30: "FSYNCDIR", 31: "GETLK", 32: "SETLK", 33: "SETLKW", 34: "ACCESS", 35: "CREATE",
	36: "INTERRUPT", 37: "BMAP", 38: "DESTROY", 39: "IOCTL", 40: "POLL", 41: "NOTIFY_REPLY", 42: "BATCH_FORGET",
	43: "FALLOCATE", 44: "READDIRPLUS", 45: "RENAME2", 46: "LSEEK", 47: "COPY_FILE_RANGE", 48: "SETUPMAPPING",
	49: "REMOVEMAPPING", 50: "SYNCFS", 51: "TMPFILE", 52: "STATX",
}

// OpcodeName is the name of an opcode, "" if there is none.
func OpcodeName(opcode uint32) string {
	if opcode >= uint32(len(opcodeNames)) {
		return ""
	}
	return opcodeNames[opcode]
}
