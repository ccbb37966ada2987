// Package tests holds what no single package can show: boots of real VMs by
// the commands as they are installed, the rules of the code's structure, and
// that the documentation is true. It has no code of its own.
package tests
