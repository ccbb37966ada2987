// Package compare says how the files of two unpacked images differ: which are
// there, their types, modes, owners and targets, and what in their content
// changed, as far as that can be said in a line or two.
package compare
