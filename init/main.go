// Command init is PID 1 of storeboot's guests: it mounts what a system needs,
// loads the modules of its image, mounts the store at /nix/store, does what the
// kernel command line asks for, reports the outcome and powers off.
package main

import (
	"fmt"
	"os"

	"storeboot/init/agent"
)

func main() {
	if os.Args[0] == agent.Name {
		if err := agent.Main(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(os.Getpid(), os.Args[1:], os.Stdout, os.Stderr))
}
