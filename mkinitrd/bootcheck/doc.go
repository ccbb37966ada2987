// Package bootcheck proves that a kernel can boot an image, as far as that can
// be known without booting it: that the unpacker reads all of it, that /init is
// a program that this kernel runs, with its interpreter and libraries, that
// every module was built for this kernel and has what it depends on, and that
// what init's plan (boot.json) asks for is built in or in the image.
//
// What it finds is an error if the guest would not come up, or not do what the
// image was made for; a warning if the image is not what its maker can have
// meant; a note if something is not known.
//
// The image is not trusted: sizes are limited, and no file of it is run.
package bootcheck
