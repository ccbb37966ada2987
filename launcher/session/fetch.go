package session

import (
	"bufio"
	"io"
	"os"

	"storeboot/internal/bootproto"
)

// maxProgress bounds one line of the store daemon's progress, in bytes.
const maxProgress = 4096

// readProgress hands each line of r to show until the daemon has closed its end.
// A line that cannot be read is no reason to end a VM.
func readProgress(r *os.File, show func(bootproto.FetchProgress)) {
	defer r.Close()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxProgress)
	for lines.Scan() {
		if p, err := bootproto.ParseFetchProgress(lines.Bytes()); err == nil {
			show(p)
		}
	}
	_, _ = io.Copy(io.Discard, r) // the daemon must not wait for us
}
