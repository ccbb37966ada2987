package templates

// Template describes an image. Every item knows where it was written.
type Template struct {
	Name        string      `json:"name"`
	Description string      `json:"description,omitempty"`
	Extends     string      `json:"extends,omitempty"`
	Include     []string    `json:"include,omitempty"`
	Parameters  []Parameter `json:"parameters,omitempty"`
	Modules     []Module    `json:"modules,omitempty"`
	Firmware    []Firmware  `json:"firmware,omitempty"`
	Microcode   []Microcode `json:"microcode,omitempty"`
	Commands    []Command   `json:"commands,omitempty"`
	Programs    []Program   `json:"programs,omitempty"`
	Binaries    []Binary    `json:"binaries,omitempty"`
	NSS         []Service   `json:"nss,omitempty"`
	Shell       []string    `json:"shell,omitempty"`
	Mode        string      `json:"mode,omitempty"`
	Run         *Run        `json:"run,omitempty"`
	Directories []Directory `json:"directories,omitempty"`
	Files       []File      `json:"files,omitempty"`
	Trees       []Tree      `json:"trees,omitempty"`
	Symlinks    []Symlink   `json:"symlinks,omitempty"`
	Devices     []Device    `json:"devices,omitempty"`
	Archives    []Archive   `json:"archives,omitempty"`
	Mounts      []Mount     `json:"mounts,omitempty"`
	Hooks       Hooks       `json:"hooks,omitzero"`
	MaxSize     int64       `json:"max_size,omitempty"` // of the image's file in bytes; 0 is no limit
	MaxSizeAt   Position    `json:"-"`
}

// Parameter is a value that whoever builds gives: ${NAME} in any text.
type Parameter struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Default     *string  `json:"default,omitempty"` // nil: it has to be given
	At          Position `json:"-"`
}

// Owner is whom an entry belongs to; the zero Owner is root.
type Owner struct {
	UID uint32 `json:"uid,omitempty"`
	GID uint32 `json:"gid,omitempty"`
}

// Module is a kernel module that the guest loads, or all in a directory of the
// kernel's tree.
type Module struct {
	// Name is that of a module, an alias, or, if it ends in a slash, of a
	// directory below kernel/: "drivers/net/".
	Name     string `json:"name"`
	Optional bool   `json:"optional,omitempty"`
	Options  string `json:"options,omitempty"` // module parameters, space separated
	// Available modules are in the image, and init does not load them. Those
	// of a directory always are.
	Available bool     `json:"available,omitempty"`
	At        Position `json:"-"`
}

// Firmware is a file below the firmware directory, beside those that the
// modules name themselves.
type Firmware struct {
	Name string   `json:"name"`
	At   Position `json:"-"`
}

// Microcode is a vendor whose CPU microcode the kernel is given before all
// else: "intel" or "amd".
type Microcode struct {
	Vendor   string   `json:"vendor"`
	Optional bool     `json:"optional,omitempty"`
	At       Position `json:"-"`
}

// Command is a command in /bin that shares one program with the others.
type Command struct {
	Name   string   `json:"name"`
	Import string   `json:"import,omitempty"` // the Go package; "" is ours or u-root's
	At     Position `json:"-"`
}

// Program is a Go command that is a program of its own.
type Program struct {
	Import string   `json:"import"`
	Path   string   `json:"path"`
	At     Position `json:"-"`
}

// Binary is a program of the host, with all that it needs to run.
type Binary struct {
	Source   string `json:"source"` // a path, or a name to look for in the usual directories
	Path     string `json:"path"`
	Optional bool   `json:"optional,omitempty"`
	// Dlopen is the least priority of the libraries named in .note.dlopen
	// that go in: "required", "recommended" (the default), "suggested", "none".
	Dlopen string   `json:"dlopen,omitempty"`
	At     Position `json:"-"`
}

// Service is a service of nsswitch.conf(5) whose library goes in.
type Service struct {
	Name string   `json:"name"`
	At   Position `json:"-"`
}

// Run is the program of mode run.
type Run struct {
	Argv []string `json:"argv"`
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	At   Position `json:"-"`
}

// Directory is an empty directory in the image.
type Directory struct {
	Path  string   `json:"path"`
	Mode  uint32   `json:"mode"` // permissions, 0 to 07777
	Owner Owner    `json:"owner,omitzero"`
	At    Position `json:"-"`
}

// File is a file of this machine, or a text, that is put into the image.
type File struct {
	Source string   `json:"source,omitempty"`
	Text   *string  `json:"text,omitempty"` // instead of a source
	Path   string   `json:"path"`
	Mode   *uint32  `json:"mode,omitempty"` // nil: 0755 or 0644, as the source is executable or not
	Owner  Owner    `json:"owner,omitzero"`
	At     Position `json:"-"`
}

// Tree is a directory of this machine with all that is below it.
type Tree struct {
	Source string `json:"source"`
	Path   string `json:"path"` // may be "/"
	Owner  Owner  `json:"owner,omitzero"`
	// KeepModes takes all permission bits as they are; if not, they are those
	// that no umask decides on.
	KeepModes bool     `json:"keepModes,omitempty"`
	At        Position `json:"-"`
}

// Symlink is a symbolic link in the image.
type Symlink struct {
	Path   string   `json:"path"`
	Target string   `json:"target"`
	Owner  Owner    `json:"owner,omitzero"`
	At     Position `json:"-"`
}

// Device is a node in the image.
type Device struct {
	Path  string   `json:"path"`
	Type  string   `json:"type"` // char, block or fifo
	Major uint32   `json:"major,omitempty"`
	Minor uint32   `json:"minor,omitempty"`
	Mode  uint32   `json:"mode"`
	Owner Owner    `json:"owner,omitzero"`
	At    Position `json:"-"`
}

// Archive is an initramfs that becomes part of the image.
type Archive struct {
	Source string `json:"source"`
	// Early archives stand before all else, uncompressed, where the kernel
	// looks for microcode and ACPI tables.
	Early bool     `json:"early,omitempty"`
	At    Position `json:"-"`
}

// Mount is a mount that init makes.
type Mount struct {
	Source  string   `json:"source"`
	Target  string   `json:"target"`
	Type    string   `json:"type"`
	Options string   `json:"options,omitempty"`
	At      Position `json:"-"`
}

// Hooks are commands that init runs, one after the other.
type Hooks struct {
	BeforeStore []Hook `json:"before_store,omitempty"`
	AfterStore  []Hook `json:"after_store,omitempty"`
}

// Hook is one command; unless it is optional, its failure ends the boot.
type Hook struct {
	Argv     []string `json:"argv"`
	Optional bool     `json:"optional,omitempty"`
	At       Position `json:"-"`
}
