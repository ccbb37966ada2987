package main

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/sandbox"
	"storeboot/virtiofsd/storeaddr"
)

// sandboxFlags are the flags that say what a daemon gives up before it serves.
type sandboxFlags struct {
	mode  string
	allow []string
}

func (o *sandboxFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.mode, "sandbox", "none", "before serving, give up `MODE`: landlock (files outside the store, needless system calls, capabilities, new privileges; an error if the kernel cannot), auto (what the kernel can), none")
	f.StringArrayVar(&o.allow, "sandbox-allow", nil, "leave this `PATH`, a file or a directory, within reach of the sandbox (may be repeated)")
}

// networkFiles are what a client of a store far away reads.
var networkFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/services", "/etc/gai.conf", "/etc/host.conf",
	"/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates",
	"/etc/localtime", "/usr/share/zoneinfo", "/etc/mime.types", "/run/systemd/resolve", "/nix/store",
}

// enter gives up what serving the store at the addresses does not need. sockets are
// the paths of our own, which we remove at the end.
func (o *sandboxFlags) enter(a storeaddr.Addresses, log *slog.Logger, sockets ...string) error {
	switch o.mode {
	case "none", "":
		log.Debug("sandbox", "mode", o.mode)
		return nil
	case "auto", "landlock":
	default:
		return cli.Usagef("--sandbox %q: want auto, landlock or none", o.mode)
	}
	readWrite, readOnly, known := storeFiles(a)
	readWrite = append(readWrite, o.allow...)
	if !known && len(o.allow) == 0 {
		if o.mode == "auto" {
			log.Warn("sandbox: none, as the files of a composition are not known", "remedy", "name them with --sandbox-allow")
			return nil
		}
		return cli.Usagef("--sandbox: the files of a composition are not known: name them with --sandbox-allow")
	}
	var remove []string
	for _, path := range sockets {
		if filepath.IsAbs(path) {
			remove = append(remove, filepath.Dir(path))
		} else if path != "" && !strings.ContainsAny(path, ":@") {
			remove = append(remove, filepath.Dir(filepath.Join(".", path)))
		}
	}
	r, err := sandbox.Enter(sandbox.Options{ReadWrite: readWrite, ReadOnly: readOnly, Remove: remove, Strict: o.mode == "landlock"})
	if err != nil {
		return err
	}
	log.Info("sandbox", "landlock", r.Landlock, "seccomp", r.Seccomp, "capabilities", r.Capabilities, "paths", readWrite)
	if r.Landlock == 0 {
		log.Warn("sandbox: this kernel has no Landlock: all files of this user are within reach")
	}
	return nil
}

// storeFiles are the files that the store at the addresses needs. known is false
// if that cannot be told.
func storeFiles(a storeaddr.Addresses) (readWrite, readOnly []string, known bool) {
	if a.Composition != "" {
		return nil, nil, false
	}
	readOnly = []string{"/dev/null", "/dev/urandom", "/proc/self", "/sys/fs/cgroup", "/proc/sys/vm", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage", "/sys/devices/system/cpu"}
	far := a.Substituters != nil && len(a.Substituters.Addresses) > 0
	if a.Dir != "" {
		readWrite = append(readWrite, a.Dir)
	}
	addresses := []string{a.Blobs, a.Directories, a.PathInfos}
	if a.Substituters != nil {
		addresses = append(addresses, a.Substituters.Addresses...)
	}
	for _, address := range addresses {
		if address == "" {
			continue
		}
		far = true
		u, err := url.Parse(address)
		if err != nil {
			continue
		}
		isFile := filepath.IsAbs(u.Path) && u.Path != "/" && (u.Host == "" || u.Host == "localhost")
		if isFile && !strings.HasPrefix(u.Scheme, "grpc") { // a database has more files beside it
			readWrite = append(readWrite, u.Path, filepath.Dir(u.Path))
		}
		for _, values := range u.Query() { // files with tokens and certificates
			for _, v := range values {
				if filepath.IsAbs(v) {
					readOnly = append(readOnly, v)
				}
			}
		}
	}
	if far {
		readWrite = append(readWrite, os.TempDir(), "/var/tmp")
		readOnly = append(readOnly, networkFiles...)
		if home, err := os.UserHomeDir(); err == nil {
			for _, dir := range []string{".aws", ".config/gcloud", ".azure"} {
				readOnly = append(readOnly, filepath.Join(home, dir))
			}
		}
		for _, e := range os.Environ() { // GOOGLE_APPLICATION_CREDENTIALS, SSL_CERT_FILE and others
			if name, v, _ := strings.Cut(e, "="); filepath.IsAbs(v) && !strings.Contains(v, ":") && (strings.Contains(name, "CREDENTIALS") || strings.Contains(name, "CERT") || strings.Contains(name, "TOKEN_FILE") || strings.Contains(name, "CONFIG_FILE")) {
				readOnly = append(readOnly, v)
			}
		}
	}
	return readWrite, readOnly, true
}
