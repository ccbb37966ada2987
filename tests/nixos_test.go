package tests

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// systems are the systems of tests/nixos, by the name of their form, built in
// the machine's Nix store once.
var systems = sync.OnceValues(func() (map[string]string, error) {
	tree, err := systemTree()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("nix-build", "--quiet", "--no-out-link", "nixos/default.nix", "--argstr", "tree", tree)
	cmd.Env = append(os.Environ(), "NIX_CONFIG=build-users-group =\nsandbox = false\nsubstitute = false")
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("nix-build: %w: %s", err, errOut.String())
	}
	found := map[string]string{}
	for _, p := range strings.Fields(string(out)) {
		_, form, _ := strings.Cut(p, "-nixos-system-")
		found[form] = p
	}
	return found, nil
})

// systemTree is the Debian tree that tests/nixos/systemd-tree makes.
func systemTree() (string, error) {
	dir := os.Getenv("STOREBOOT_SYSTEMD_TREE")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "storeboot/systemd-tree")
	}
	_, err := os.Stat(filepath.Join(dir, "done"))
	return filepath.Join(dir, "root"), err
}

// everyVM says that all is to be booted, not only what stands for the rest.
func everyVM() bool { return os.Getenv("STOREBOOT_VM_TESTS") == "all" }

// addSystem takes the system of that form into the store.
func (w *world) addSystem(form string) string {
	w.t.Helper()
	_, err := systemTree()
	need(w.t, err == nil, "a tree with systemd (made by tests/nixos/systemd-tree: debootstrap, root, the network, 90 s)")
	for _, tool := range []string{"nix-build", "patchelf", "mkfs.erofs"} {
		_, err := exec.LookPath(tool)
		need(w.t, err == nil, tool+" (apt-get install nix-bin patchelf erofs-utils)")
	}
	all, err := systems()
	if err != nil {
		w.t.Fatal(err)
	}
	w.must("virtiofsd", "copy", "--from-nix", all[form])
	return all[form]
}

// contractMounts are those that NixOS' stage 1 makes, as far as systemd leaves
// their options alone.
func contractMounts() []string {
	return []string{
		"/proc proc rw,nosuid,nodev,noexec,relatime",
		"/sys sysfs rw,nosuid,nodev,noexec,relatime",
		"/dev devtmpfs rw,nosuid,",
		"/dev/pts devpts rw,nosuid,noexec,relatime,gid=3,mode=620,ptmxmode=666",
		"/dev/shm tmpfs rw,nosuid,nodev,",
		"/run tmpfs rw,nosuid,nodev,",
		"/run/keys ramfs rw,nosuid,nodev,relatime,mode=750",
	}
}

// TestSystems boots a system with a real systemd in every form that NixOS
// systems have. What stage 2 finds wrong fails its activation, and so the boot.
func TestSystems(t *testing.T) {
	needVM(t)
	tests := []struct {
		form, path string // in the store path
		flags      []string
		has        []string
		usual      bool
	}{
		{form: "b", usual: true, has: []string{"journal init is .*/lib/systemd/systemd \\(NixOS, kind B\\)", "journal activation: setting up /etc...", "mount / tmpfs rw"}},
		{form: "a", path: "/init", has: []string{"journal init is .* \\(NixOS, kind A\\)", "mount / tmpfs rw"}},
		{form: "a", path: "/specialisation/other", flags: []string{"--writable-store"}, has: []string{"journal init is .*kind A\\)", "mount /nix/store overlay rw,nosuid,nodev"}},
		{form: "old", path: "/init", has: []string{"journal init is .*kind A, which starts its systemd itself"}},
		{form: "c", flags: []string{"--kernel-params"}, has: []string{"journal init is .*kind C\\)", "mount /etc overlay rw,nosuid,nodev", "mount /run/nixos-etc-metadata erofs ro,nosuid,nodev"}},
	}
	for _, tt := range tests {
		t.Run(tt.form+tt.path, func(t *testing.T) {
			if !tt.usual && !everyVM() {
				t.Skip("SKIP: the usual form stands for it; STOREBOOT_VM_TESTS=all boots every one")
			}
			w := newWorld(t)
			system := w.addSystem(tt.form)
			log := filepath.Join(t.TempDir(), "console")
			args := append([]string{"boot", "--memory", "1G", "--console-log", log, "--cmdline", "quiet"}, tt.flags...)
			r := w.run(nil, "launcher", append(args, system+tt.path)...)
			out := strings.ReplaceAll(r.stdout, "\r", "")
			want := append(tt.has, "state running", "initramfs gone", "booted "+system, "current "+system,
				// The phase before systemd is known to it.
				`analyze Startup finished in \S+ \(kernel\) \+ \S+ \(initrd\) \+ .*\(userspace\)`,
				"journal step mounts took", "journal step store took",
				"machine-id [0-9a-f]{32}",
				"pid1 .*systemd --switched-root --system --deserialize [0-9]+ $")
			for _, m := range contractMounts() {
				want = append(want, "mount "+m)
			}
			if len(tt.flags) == 0 {
				want = append(want, "mount /nix/store virtiofs ro,nosuid,nodev")
			}
			for _, re := range want {
				if !regexp.MustCompile(`(?m)^report: ` + re).MatchString(out) {
					t.Errorf("the report lacks %q", re)
				}
			}
			if strings.Contains(out, "report: failed") || !strings.Contains(out, "reboot: Power down") {
				t.Error("a unit failed, or the machine was not powered off in order")
			}
			if r.code != 0 || t.Failed() {
				t.Fatalf("got %s", r)
			}
		})
	}
}

// TestSystemFails holds that an activation that fails ends the boot with its
// words, before anything was given up.
func TestSystemFails(t *testing.T) {
	needVM(t)
	if !everyVM() {
		t.Skip("SKIP: init's own tests stand for it; STOREBOOT_VM_TESTS=all boots it")
	}
	w := newWorld(t)
	system := w.addSystem("failing")
	r := w.run(nil, "launcher", "boot", "--memory", "1G", system)
	if want := "activation " + system + `/prepare-root: exit status 3; its last words: "cannot make users"`; r.code != 1 || !strings.Contains(r.stderr, want) {
		t.Errorf("want exit 1 and %q: %s", want, r)
	}
}
