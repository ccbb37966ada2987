// Command launcher runs programs and systems of a content-addressed store in
// virtual machines.
package main

import (
	"os"

	"storeboot/internal/cli"
)

func main() {
	os.Exit(cli.Main(commandFor(os.Args[0])))
}
