// Package templates has the templates that images are built from: a small YAML
// format, its strict parser, and the built-in templates.
//
// A template is one mapping:
//
//	description: what the image is for
//	extends: store                # a built-in template; lists add to its lists
//	modules:                      # kernel modules, with all that they need, in
//	  - virtiofs                  #   load order; what is built in is left out
//	  - virtio_console?           # "?": only where the kernel has it
//	  - nvme io_queue_depth=64    # module parameters
//	commands: [sh, ls]            # in /bin: sh is ours, the others are u-root's
//	shell: [/bin/sh]              # argv of the interactive shell
//	mode: shell                   # find, shell or run, where the command line
//	                              #   of the kernel names none
//	directories:
//	  - path: /data
//	    mode: 0700                # default 0755
//	files:
//	  - source: motd              # relative to the template
//	    path: /etc/motd
//	    mode: 0600                # default: 0755 for what is executable, or 0644
//	symlinks:
//	  - path: /bin/bash
//	    target: sh
//	mounts:                       # made by init before the store
//	  - source: tmpfs
//	    target: /data
//	    type: tmpfs
//	    options: nosuid,size=10%
//
// Invariants: an unknown or repeated key is an error, and so is a value of
// another kind; every error says FILE:LINE:COLUMN. Paths in the image are
// absolute and in their shortest form.
//
// Limits: a template has at most 64 KiB, nests at most 32 deep, and has neither
// anchors, aliases, tags nor several documents. Templates are not trusted to be
// well formed, but who writes one decides what its image does.
package templates
