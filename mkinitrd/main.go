// Command mkinitrd builds and inspects the initrds of storeboot's guests.
package main

import (
	"os"

	"storeboot/internal/cli"
)

func main() {
	os.Exit(cli.Main(newCommand()))
}
