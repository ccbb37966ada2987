// Package templates has the templates that images are built from: a small YAML
// format, its strict parser, and the built-in templates.
//
// A template is one mapping; every key may be left out:
//
//	description: what the image is for
//	extends: store                # a built-in template; lists add to its lists
//	include: [./net.yaml, shell]  # more of them, files too, each over the last
//	parameters:                   # ${NAME} in any text; $${ stands for ${
//	  - name: port
//	    description: where it listens
//	    default: "80"             # without one it has to be given
//	modules:                      # kernel modules, with all that they need, in
//	  - virtiofs                  #   load order; what is built in is left out
//	  - virtio_console?           # "?": only where the kernel has it
//	  - nvme io_queue_depth=64    # module parameters
//	  - pci:v00001AF4d00001041sv* # an alias
//	  - drivers/net/ethernet/     # a directory of the kernel: in the image, and
//	                              #   not loaded
//	  - {name: ext4, available: true, optional: true}
//	firmware: [rtl_nic/rtl8168h-2.fw] # beside what the modules name
//	microcode: [intel, "amd?"]    # of the CPU, as the first segment
//	commands:                     # in /bin, all of them one program: sh is
//	  - sh                        #   ours, other names are u-root's, and paths
//	  - example.org/cmd/x         #   are Go commands of the build list
//	programs:                     # Go commands, each a program of its own
//	  - {import: example.org/cmd/y, path: /bin/why} # default: /bin/y
//	binaries:                     # of this machine, with their libraries
//	  - ip                        # looked for in the usual directories; in /bin
//	  - /usr/bin/strace?          # stays where it is; "?": only if it is there
//	  - {source: ./x, path: /bin/x, dlopen: suggested} # or required, none
//	nss: [files, dns]             # services of nsswitch.conf: their libraries
//	shell: [/bin/sh]              # argv of the interactive shell
//	mode: shell                   # find, shell or run, where the command line
//	                              #   of the kernel names none
//	run:                          # the program of mode run
//	  argv: [/bin/x, -v]
//	  env: [A=b]
//	  dir: /
//	directories:
//	  - path: /data
//	    mode: 0700                # default 0755
//	    owner: "1000:100"         # default root
//	files:
//	  - source: motd              # relative to the template
//	    path: /etc/motd
//	    mode: 0600                # default: 0755 for what is executable, or 0644,
//	                              #   with setuid and setgid
//	  - {text: "hello\n", path: /etc/issue}
//	trees:
//	  - source: ./root            # all below it; links are kept
//	    path: /
//	    modes: keep               # default usual: 0755 or 0644, with the bits
//	                              #   setuid, setgid (of files) and sticky
//	symlinks:
//	  - path: /bin/bash
//	    target: sh
//	devices:
//	  - {path: /dev/kmsg, type: char, major: 1, minor: 11, mode: 0600}
//	archives:                     # initramfs files; each stays a segment
//	  - base.cpio
//	  - {source: acpi.cpio, early: true} # uncompressed, before all else
//	mounts:                       # made by init before the store
//	  - source: tmpfs
//	    target: /data
//	    type: tmpfs
//	    options: nosuid,size=10%
//	hooks:                        # commands that init runs, in order
//	  before_store: [[/bin/modprobe, dm_mod]]
//	  after_store:
//	    - {argv: [/bin/x], optional: true}
//	max_size: 8M                  # a larger image is not built
//
// Invariants: an unknown or repeated key is an error, and so is a value of
// another kind; every error says FILE:LINE:COLUMN, and so do those of a build
// that concern an item, since each knows its [Position]. Paths in the image are
// absolute and in their shortest form. A source that begins with a parameter is
// relative to the working directory, as its value was written there.
//
// Limits: a template has at most 64 KiB, nests at most 32 deep, is made of at
// most 64 templates, and has neither anchors, aliases, tags nor several
// documents. Templates are not trusted to be well formed, but who writes one
// decides what its image does and which files of this machine are in it.
package templates
