package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"storeboot/init/network/ipconfig"
	"storeboot/internal/bootproto"
)

const help = `network configures the network of a guest as the kernel parameter ip= says, and
does nothing without one. init runs it in images of the template net.

  ip=dhcp                                      the first device, by DHCP
  ip=:::::eth1:dhcp                            that device
  ip=10.0.2.15::10.0.2.2:24:guest:eth0:off:1.1.1.1
  ip=CLIENT:SERVER:GATEWAY:NETMASK:HOSTNAME:DEVICE:AUTOCONF:DNS0:DNS1:NTP0
  nameserver=ADDRESS                           a further name server, repeatable

All fields are the kernel's own (nfsroot.rst); what is given there counts before
what the DHCP server says. Name servers go to /etc/resolv.conf, all else that
programs may ask for to /run/net-DEVICE.conf. A lease is not renewed.

Usage: network [--cmdline FILE]   (default /proc/cmdline)
`

// limit is how long everything may take; deviceWait of it is for the device to
// appear.
const (
	limit      = 45 * time.Second
	deviceWait = 10 * time.Second
)

// run is main with its surroundings as arguments, and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	file := "/proc/cmdline"
	switch {
	case len(args) == 1 && (args[0] == "--help" || args[0] == "-h"):
		fmt.Fprint(stdout, help)
		return 0
	case len(args) == 2 && args[0] == "--cmdline":
		file = args[1]
	case len(args) > 0:
		fmt.Fprintf(stderr, "network: %q: see network --help\n", args)
		return 2
	}
	line, err := os.ReadFile(file)
	if err == nil {
		err = configure(string(line), stdout)
	}
	if err != nil {
		fmt.Fprintln(stderr, "network:", err)
		return 1
	}
	return 0
}

// configure does what the command line asks for, and says what it did.
func configure(line string, out io.Writer) error {
	list, servers, err := requests(line)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var all []*settings
	for _, c := range list {
		if c.Off {
			continue
		}
		s, err := bringUp(ctx, c)
		if err != nil {
			return err
		}
		fmt.Fprintln(out, s)
		all = append(all, s)
	}
	if len(all) == 0 && len(servers) == 0 {
		return nil
	}
	return writeFiles("/", all, servers)
}

// requests are the words of the command line that are for us.
func requests(line string) (list []ipconfig.Config, servers []string, err error) {
	words, _ := bootproto.SplitCommandLine(line)
	var values []string
	for _, w := range words {
		switch w.Key {
		case "ip":
			values = append(values, w.Value)
		case "nameserver":
			if strings.ContainsAny(w.Value, " \t\n") || w.Value == "" {
				return nil, nil, fmt.Errorf("nameserver=%s: want an address", w.Value)
			}
			servers = append(servers, w.Value)
		}
	}
	list, err = ipconfig.All(values)
	return list, servers, err
}
