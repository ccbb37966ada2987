package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"storeboot/internal/bootproto"
	"storeboot/internal/cli"
	"storeboot/launcher/rundir"
	"storeboot/launcher/vmm"
)

// machineOptions are the flags of every subcommand: on what the guest runs.
type machineOptions struct {
	choice     vmm.Choice
	kernel     string
	initrd     string
	template   string
	cmdline    string
	cpus       int
	memory     string
	maxMemory  string
	balloon    bool
	hugePages  bool
	pin        string
	arch       string
	disks      []string
	shares     []string
	nets       []string
	publish    []string
	vsock      uint32
	timeout    time.Duration
	consoleLog string
	dryRun     bool
	printConf  bool
	verbose    bool
	report     string
	name       string
	detach     bool
	attach     bool
	agent      bool

	store          string
	blobs          string
	directories    string
	pathInfos      string
	substituters   []string
	trustedKeys    string
	fetchTimeout   string
	virtiofsd      string
	mkinitrd       string
	modulesDir     string
	shareDaemon    string
	storeDaemon    string
	defaultsFailed error
}

// Environment variables of the original, and what they default to.
const (
	cpusVariable    = "CH_NUM_CPUS"
	memoryVariable  = "CH_MEM_SIZE"
	cmdlineVariable = "CH_CMDLINE"
	defaultCPUs     = "1"
	defaultMemory   = "512M"
)

func (o *machineOptions) addFlags(f *pflag.FlagSet) {
	cpus, err := strconv.Atoi(environ(cpusVariable, defaultCPUs))
	if err != nil {
		o.defaultsFailed = fmt.Errorf("%s=%s: not a number of CPUs", cpusVariable, environ(cpusVariable, ""))
	}
	f.String("config", "", "read flags from this YAML `FILE` (default: $XDG_CONFIG_HOME/storeboot/launcher.yaml if it is there; see: launcher config)")
	f.StringVar(&o.choice.VMM, "vmm", "auto", "virtual machine monitor: auto, qemu, cloud-hypervisor")
	f.StringVar(&o.choice.Accel, "accel", "auto", "accelerator: auto, kvm, tcg")
	f.StringVar(&o.choice.Machine, "machine", "auto", "machine type of QEMU: auto (q35, on arm64 virt), q35, microvm, virt")
	f.StringVar(&o.arch, "arch", "", "architecture of the guest: amd64, arm64 (default: that of --kernel, or this machine's)")
	f.StringVar(&o.kernel, "kernel", "", "kernel image `FILE` (default: the newest in /boot that has its modules)")
	f.StringVar(&o.initrd, "initrd", "", "initrd `FILE` (default: built by mkinitrd for the kernel)")
	f.StringVar(&o.template, "template", "", "template `NAME|FILE` of the initrd that is built")
	f.StringVar(&o.cmdline, "cmdline", "", "further kernel parameters")
	f.IntVar(&o.cpus, "cpus", cpus, "processors of the guest")
	f.StringVar(&o.memory, "memory", environ(memoryVariable, defaultMemory), "memory of the guest, with suffix K, M, G or T")
	f.StringVar(&o.maxMemory, "max-memory", "", "memory that the guest can be given while it runs (launcher resize), by virtio-mem (default: no more than --memory)")
	f.BoolVar(&o.balloon, "balloon", false, "let the guest give back memory: what it does not use by itself, more by launcher resize")
	f.BoolVar(&o.hugePages, "hugepages", false, "take the guest's memory from the host's huge pages of 2 MiB (vm.nr_hugepages)")
	f.StringVar(&o.pin, "pin", "", "run the VM on these processors of the host only, a `LIST` as 0-3,8, or each of the guest's on some, as 0@4,1@5-6 (default: on any)")
	f.StringArrayVar(&o.shares, "share", nil, "share a directory of the host, `TAG=PATH[,rw][,at=DIR]`, mounted at /mnt/TAG or DIR, read-only without rw (repeatable)")
	f.StringArrayVar(&o.nets, "net", nil, "network device: `user` (QEMU's own, or passt with cloud-hypervisor), passt, or tap=INTERFACE; ,mac=ADDRESS may follow (repeatable; default: none)")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "pass connections to a port of the host on to the guest, `[ADDRESS:]HOST:GUEST[/udp]`; the address is 127.0.0.1 without one; needs no --net (repeatable)")
	f.Uint32Var(&o.vsock, "vsock", 0, "vsock address (`CID`, 3 or more) of the guest; 0 for none")
	f.StringArrayVar(&o.disks, "disk", nil, "raw image or block device `FILE[,ro]` as /dev/vda, the next as /dev/vdb (repeatable)")
	f.DurationVar(&o.timeout, "timeout", 0, "end the VM after this `TIME` (90s, 10m), with exit status 124")
	f.StringVar(&o.consoleLog, "console-log", "", "write the kernel's console to `FILE`")
	f.BoolVar(&o.dryRun, "dry-run", false, "print the commands that would be run, and run none")
	f.BoolVar(&o.printConf, "print-config", false, "print the machine that would be run as JSON, and run nothing")
	f.StringVar(&o.report, "report", "", "write where the time of the boot went to `FILE` (.json, .svg, .html; - for a table on standard error)")
	f.StringVar(&o.name, "name", "", "`NAME` of the VM for ps, stop, exec, ... (default: a new one)")
	f.BoolVarP(&o.detach, "detach", "d", false, "run the VM in the background, print its name once its store is mounted, and exit")
	f.BoolVar(&o.attach, "attach", false, "run the VM in the background and attach to its console: Ctrl-] three times leaves it running")
	f.BoolVar(&o.agent, "agent", false, "start an agent in the guest, for launcher exec and stop (always with --detach and --attach)")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say what is done and how long it takes")
	f.StringVar(&o.store, "store", "", "store `DIR` (default: $STOREBOOT_STORE, or as virtiofsd has it)")
	f.StringVar(&o.blobs, "blob-service-addr", "", "`ADDRESS` of the blobs ($BLOB_SERVICE_ADDR)")
	f.StringVar(&o.directories, "directory-service-addr", "", "`ADDRESS` of the directories ($DIRECTORY_SERVICE_ADDR)")
	f.StringVar(&o.pathInfos, "path-info-service-addr", "", "`ADDRESS` of the path infos ($PATH_INFO_SERVICE_ADDR)")
	f.StringArrayVar(&o.substituters, "substituter", nil, "fetch what the store lacks from this Nix binary cache when the guest asks for it, an `ADDRESS` as https://cache.nixos.org (may be repeated)")
	f.StringVar(&o.trustedKeys, "trusted-public-keys", "", "trust what these `KEYS` have signed in the substituters (NAME:BASE64, with spaces between)")
	f.StringVar(&o.fetchTimeout, "fetch-timeout", "", "give the guest EIO for a path that the substituters have not brought after this `TIME` (default: 5m)")
	f.StringVar(&o.storeDaemon, "store-daemon", "", "store daemon `COMMAND` of another make in place of ours, such as \"tvix-store virtiofs\"; \" -l SOCKET\" is added")
	f.StringVar(&o.shareDaemon, "share-daemon", "", "virtiofsd `FILE` that serves --share (default: Rust's or QEMU's where distributions have it)")
	f.StringVar(&o.virtiofsd, "virtiofsd", "", "store daemon `FILE` (default: beside launcher, or in $PATH)")
	f.StringVar(&o.mkinitrd, "mkinitrd", "", "initrd builder `FILE` (default: beside launcher, or in $PATH)")
	f.StringVar(&o.modulesDir, "modules-dir", "", "directory `DIR` of the kernel's modules (default: /lib/modules/RELEASE)")
	f.SortFlags = false
}

// check checks all that can be wrong about the flags themselves, and returns
// the size of the memory.
func (o *machineOptions) check() (vmm.Size, error) {
	if o.defaultsFailed != nil && o.cpus == 0 {
		return 0, setUsage(o.defaultsFailed)
	}
	if err := o.choice.Check(); err != nil {
		return 0, setUsage(err)
	}
	if o.cpus < 1 || o.cpus > vmm.MaxCPUs {
		return 0, cli.Usagef("%s %d: want 1 to %d CPUs", named("--cpus", cpusVariable, defaultCPUs, strconv.Itoa(o.cpus)), o.cpus, vmm.MaxCPUs)
	}
	memory, err := vmm.ParseSize(o.memory)
	if err != nil {
		return 0, cli.Usagef("%s %s: %w", named("--memory", memoryVariable, defaultMemory, o.memory), o.memory, err)
	}
	if o.timeout < 0 {
		return 0, cli.Usagef("--timeout %v: want a time from now", o.timeout)
	}
	switch {
	case o.arch != "" && o.arch != "amd64" && o.arch != "arm64":
		return 0, cli.Usagef("--arch %s: there are amd64 and arm64", o.arch)
	case o.name != "" && rundir.CheckName(o.name) != nil:
		return 0, cli.Usagef("--name: %w", rundir.CheckName(o.name))
	case o.detach && o.attach:
		return 0, cli.Usagef("--detach and --attach exclude each other")
	case o.storeDaemon != "" && (len(o.substituters) > 0 || o.store != ""):
		return 0, cli.Usagef("--store-daemon has a store of its own: it excludes --store and --substituter")
	}
	if o.initrd != "" && o.template != "" {
		return 0, cli.Usagef("--initrd and --template exclude each other")
	}
	if o.trustedKeys != "" && len(o.substituters) == 0 {
		return 0, cli.Usagef("--trusted-public-keys needs --substituter")
	}
	if o.fetchTimeout != "" {
		if d, err := time.ParseDuration(o.fetchTimeout); err != nil || d < 0 {
			return 0, cli.Usagef("--fetch-timeout %q: want a time such as 30s or 5m", o.fetchTimeout)
		}
	}
	p, err := bootproto.ParseCommandLine(o.cmdline)
	switch {
	case err != nil:
		return 0, cli.Usagef("--cmdline: %w", err)
	case p.Mode != bootproto.ModeNone || len(p.InitArgs) > 0:
		return 0, cli.Usagef("--cmdline %q: what to do is said by the subcommand, or by %s without one", o.cmdline, cmdlineVariable)
	}
	return memory, nil
}

// named is the flag, or the environment variable that it takes its value from.
func named(flag, variable, def, value string) string {
	if environ(variable, def) == value && environ(variable, "") != "" {
		return variable
	}
	return flag
}

// daemonArgs are the store daemon's arguments that say which store it serves.
// Those of the environment it reads itself.
func (o *machineOptions) daemonArgs() []string {
	var args []string
	for _, f := range []struct{ name, value string }{
		{"--store", o.store}, {"--blob-service-addr", o.blobs},
		{"--directory-service-addr", o.directories}, {"--path-info-service-addr", o.pathInfos},
		{"--trusted-public-keys", o.trustedKeys}, {"--fetch-timeout", o.fetchTimeout},
	} {
		if f.value != "" {
			args = append(args, f.name, f.value)
		}
	}
	for _, addr := range o.substituters {
		args = append(args, "--substituter", addr)
	}
	return args
}

// findDisks are the disks of the flags, which have to be there.
func (o *machineOptions) findDisks() ([]vmm.Disk, error) {
	var list []vmm.Disk
	for _, s := range o.disks {
		file, readOnly := strings.CutSuffix(s, ",ro")
		path, err := filepath.Abs(file)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return nil, fmt.Errorf("--disk: %w", err)
		}
		list = append(list, vmm.Disk{Path: path, ReadOnly: readOnly})
	}
	return list, nil
}
