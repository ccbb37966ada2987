package templates

// Template describes an image.
type Template struct {
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Extends     string      `json:"extends,omitempty"`
	Modules     []Module    `json:"modules,omitempty"`
	Commands    []string    `json:"commands,omitempty"`
	Shell       []string    `json:"shell,omitempty"`
	Mode        string      `json:"mode,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	Files       []File      `json:"files,omitempty"`
	Symlinks    []Symlink   `json:"symlinks,omitempty"`
	Mounts      []Mount     `json:"mounts,omitempty"`
}

// Module is a kernel module that the guest loads.
type Module struct {
	Name     string `json:"name"`
	Optional bool   `json:"optional,omitempty"`
	Options  string `json:"options,omitempty"` // module parameters, space separated
}

// Directory is an empty directory in the image.
type Directory struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode"` // permissions, 0 to 07777
}

// File is a file of this machine that is put into the image.
type File struct {
	Source string  `json:"source"`
	Path   string  `json:"path"`
	Mode   *uint32 `json:"mode,omitempty"` // nil: as the source, without write permission for others
}

// Symlink is a symbolic link in the image.
type Symlink struct {
	Path   string `json:"path"`
	Target string `json:"target"`
}

// Mount is a mount that init makes.
type Mount struct {
	Source  string `json:"source"`
	Target  string `json:"target"`
	Type    string `json:"type"`
	Options string `json:"options,omitempty"`
}

// over returns t on top of base: lists after those of base, without what base
// has already; anything else instead of base's.
func (t *Template) over(base *Template) *Template {
	out := *t
	out.Modules = join(base.Modules, t.Modules)
	out.Commands = join(base.Commands, t.Commands)
	out.Directories = join(base.Directories, t.Directories)
	out.Files = join(base.Files, t.Files)
	out.Symlinks = join(base.Symlinks, t.Symlinks)
	out.Mounts = join(base.Mounts, t.Mounts)
	if len(out.Shell) == 0 {
		out.Shell = base.Shell
	}
	if out.Mode == "" {
		out.Mode = base.Mode
	}
	return &out
}

func join[T comparable](a, b []T) []T {
	seen := map[T]bool{}
	var out []T
	for _, list := range [][]T{a, b} {
		for _, x := range list {
			if !seen[x] {
				seen[x] = true
				out = append(out, x)
			}
		}
	}
	return out
}
