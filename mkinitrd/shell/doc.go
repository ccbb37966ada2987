// Command shell is /bin/sh of an image: a POSIX shell with much of bash, made
// of an interpreter and a line editor. It is built into images by mkinitrd; it
// serves a person at a console, and scripts.
//
//	sh [-l] [-i] [-efnux] [-c COMMAND [NAME [ARG...]] | FILE [ARG...]]
//
// Without COMMAND and FILE it reads from its input: a line at a time, with
// editing, history and completion, if that is a terminal; as a script
// otherwise. It ends with the status of the last command, of exit, or 2 if it
// is used wrongly.
//
// There is no job control: all commands run in the shell's own process group,
// where the interrupt key reaches them, and the key that would suspend them is
// off, since nothing could continue them.
package main
