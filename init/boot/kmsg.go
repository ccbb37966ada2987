package boot

import (
	"io"
	"strings"
	"unicode/utf8"
)

// Priorities of kernel messages (syslog(2)).
const (
	priorityError   = '3'
	priorityWarning = '4'
	priorityInfo    = '6'
	// priorityDebug is not printed on a console as kernels have it: each
	// character is dear on a serial line.
	priorityDebug = '7'
)

// maxMessage is how many bytes of a message go into a record: the kernel
// refuses a write of more than 1024 (kernel/printk, PRINTKRB_RECORD_MAX).
const maxMessage = 960

// kernelLog writes records to /dev/kmsg.
type kernelLog struct{ w io.Writer }

func (l *kernelLog) info(text string)    { l.write(priorityInfo, text) }
func (l *kernelLog) debug(text string)   { l.write(priorityDebug, text) }
func (l *kernelLog) warning(text string) { l.write(priorityWarning, text) }
func (l *kernelLog) error(text string)   { l.write(priorityError, text) }

// write writes one record; there is nowhere to report its failure to.
func (l *kernelLog) write(priority byte, text string) {
	if l.w == nil {
		return
	}
	_, _ = io.WriteString(l.w, "<"+string(priority)+">storeboot: "+printable(text, maxMessage)+"\n")
}

// printable is text on one line of at most limit bytes, without control
// characters: names in it come from outside.
func printable(text string, limit int) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case r < ' ' || r == 0x7f:
			return '?'
		}
		return r
	}, text)
	if len(text) <= limit {
		return text
	}
	cut := limit - len("...")
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "..."
}
