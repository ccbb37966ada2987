// Command virtiofsd is the store of storeboot and its daemons: it takes
// directories and Nix closures in as content-addressed trees and serves them
// to virtual machines over virtio-fs.
package main

import (
	"os"

	"storeboot/internal/cli"
)

func main() {
	os.Exit(cli.Main(commandOf(os.Args[0])))
}
