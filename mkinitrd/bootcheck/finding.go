package bootcheck

import (
	"fmt"

	"storeboot/mkinitrd/unpack"
)

// Level is how bad a finding is.
type Level string

const (
	Error   Level = "error"
	Warning Level = "warning"
	Note    Level = "note"
)

// Finding is one thing that was found.
type Finding struct {
	Level Level  `json:"level"`
	Path  string `json:"path,omitempty"` // in the image; "" for the image itself
	Text  string `json:"text"`
}

func (f Finding) String() string {
	if f.Path == "" {
		return f.Text
	}
	return f.Path + ": " + f.Text
}

// Kernel is the kernel that is to boot the image.
type Kernel struct {
	Release string          // "" if not known
	Arch    string          // as GOARCH; "" if not known
	Config  *Config         // nil if not known
	Builtin map[string]bool // modules that are built in, by name; nil if not known
}

type checker struct {
	res  *unpack.Result
	tree *unpack.Tree
	k    Kernel
	list []Finding
}

func (c *checker) say(l Level, path, format string, args ...any) {
	c.list = append(c.list, Finding{l, path, fmt.Sprintf(format, args...)})
}

// Check returns what is wrong with the image that r was unpacked from, in the
// order in which a boot would meet it.
func Check(r *unpack.Result, k Kernel) []Finding {
	c := &checker{res: r, tree: r.Tree, k: k}
	c.archive()
	if r.Unsure != "" {
		return c.list
	}
	c.init()
	mods := c.modules()
	c.plan(mods)
	return c.list
}

// archive reports what the unpacker does.
func (c *checker) archive() {
	r := c.res
	if len(r.Segments) == 0 && r.Message == "" {
		c.say(Error, "", "there is nothing in it but zero bytes")
	}
	if r.Message != "" {
		text := fmt.Sprintf("segment %d, at byte %d: the kernel stops unpacking here (%q)", r.Segment, r.Offset, r.Message)
		if r.Cause != "" {
			text += ": " + r.Cause
		}
		c.say(Error, "", "%s", text)
	}
	if r.Unsure != "" {
		c.say(Note, "", "segment %d: %s", len(r.Segments)-1, r.Unsure)
	}
	for _, l := range r.Losses {
		path := l.Path
		if path != "" && path[0] != '/' {
			path = "/" + path
		}
		where := fmt.Sprintf("segment %d, at byte %d", l.Segment, l.Offset)
		if l.Dropped {
			c.say(Error, path, "%s: the kernel drops this entry without a message: %s", where, l.Why)
		} else {
			c.say(Warning, path, "%s: %s", where, l.Why)
		}
	}
	if r.More > 0 {
		c.say(Error, "", "%d more entries are dropped or changed by the kernel", r.More)
	}
	if c.k.Config == nil {
		c.say(Note, "", "the kernel's configuration is not known (no config-%s beside it, none in it): which compressions it unpacks and what is built in is not checked; name it with --config", c.k.Release)
	} else if !c.k.Config.On("BLK_DEV_INITRD") {
		c.say(Error, "", "the kernel takes no initrd: CONFIG_BLK_DEV_INITRD is off")
	}
}
