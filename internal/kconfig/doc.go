// Package kconfig reads the .config files of Linux: one option a line,
//
//	CONFIG_NAME=y | m | number | "string"
//	# CONFIG_NAME is not set
//
// with comments and empty lines between (Documentation/kbuild/kconfig.rst).
package kconfig
