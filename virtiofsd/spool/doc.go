// Package spool keeps the contents of a blob that may not be handed out before
// all of it has come: in memory up to a size, beyond it in a file without a
// name, which takes no place any more when it is closed or the process ends.
package spool
