// Command kernelconfig knows the kernel options that storeboot's guests need.
package main

import (
	"os"

	"storeboot/internal/cli"
)

func main() {
	os.Exit(cli.Main(newCommand()))
}
