// Command network configures the network of a guest as ip= on the kernel's
// command line says. Images that want it (template net) have it as a program of
// its own, which init runs before it mounts the store.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}
