//go:build peers

package peers

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"storeboot/tests/nested"
)

// nestedLimit is how long the test in the nested VM may take; it takes about a
// minute on an idle machine.
const nestedLimit = 8 * time.Minute

// TestCloudHypervisor does what the original's script does, down to
// cloud-hypervisor's command line, with our program under the original's names;
// but for mergeable=on beside shared=on, which cloud-hypervisor now refuses.
// cloud-hypervisor needs a KVM that takes an ordinary kernel, which a machine for
// tests seldom has: it runs in a VM of QEMU's, which emulates AMD's SVM, on this
// machine's own files.
func TestCloudHypervisor(t *testing.T) {
	if _, err := exec.LookPath("cloud-hypervisor"); err != nil {
		t.Skip("SKIP: cloud-hypervisor is not in $PATH")
	}
	if what := nested.Missing(); what != "" {
		t.Skipf("SKIP: this machine lacks %s", what)
	}
	kernel, closure := nested.Kernel(), hello(t)

	// The nested machine sees these; it has a /tmp of its own.
	dir, err := nested.Dir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	initrd := filepath.Join(dir, "initrd")
	run(t, nil, "", ours(t, "mkinitrd"), "build", "--template", "store", "--kernel", kernel, "-o", initrd)
	program, err := os.ReadFile(ours(t, "virtiofsd"))
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, content string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	write("virtiofsd", string(program), 0o755)
	for _, name := range peerNames {
		if err := os.Symlink("virtiofsd", filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("closure.json", closureJSON(t, closure), 0o644)
	write("script", strings.NewReplacer("@DIR@", dir, "@KERNEL@", kernel, "@INITRD@", initrd, "@CLOSURE@", closure).Replace(`
export PATH=@DIR@:/usr/local/bin:/usr/bin:/bin
mkdir -p /tmp/w && cd /tmp/w
wait_for() { n=0; while ! test -e "$1" && test $n -lt 600; do sleep 0.1; n=$((n+1)); done; }
boot() { # STORE-PROGRAM TAG COMMAND-LINE
	rm -f /tmp/w/$2.sock
	$1 --otlp=false virtiofs -l /tmp/w/$2.sock &
	fs=$!
	wait_for /tmp/w/$2.sock
	cloud-hypervisor \
		--cpus boot=1 --memory shared=on,size=512M \
		--console null --serial tty \
		--kernel @KERNEL@ --initramfs @INITRD@ \
		--cmdline "console=ttyS0 $3" \
		--fs tag=$2,socket=/tmp/w/$2.sock,num_queues=1,queue_size=512
	status=$?
	echo "vmm $2 ended: $status"
	test $status = 0 || kill $fs
	wait $fs
	echo "virtiofs $2 ended: $?"
}
export BLOB_SERVICE_ADDR=memory:// DIRECTORY_SERVICE_ADDR=memory:// PATH_INFO_SERVICE_ADDR=memory://
tvix-store --otlp=false daemon -l /tmp/w/daemon &
wait_for /tmp/w/daemon
export BLOB_SERVICE_ADDR=grpc+unix:///tmp/w/daemon DIRECTORY_SERVICE_ADDR=grpc+unix:///tmp/w/daemon PATH_INFO_SERVICE_ADDR=grpc+unix:///tmp/w/daemon
snix-store --otlp=false import @DIR@/closure.json
snix-store --otlp=false copy @DIR@/closure.json
boot tvix-store tvix tvix.find
boot snix-store snix "snix.run=@CLOSURE@/bin/hello"
echo script done
`), 0o644)

	ctx, cancel := context.WithTimeout(t.Context(), nestedLimit)
	defer cancel()
	var printed bytes.Buffer
	host := nested.Host{Kernel: kernel, Memory: 2048, Out: &printed}
	if status, err := host.Run(ctx, "/bin/sh "+filepath.Join(dir, "script")); err != nil || status != 0 {
		t.Errorf("the script: %d, %v", status, err)
	}
	out := printed.String()
	for _, want := range []string{
		closure + "/bin/hello", "-closure.json", "Hello, world!",
		"vmm tvix ended: 0", "virtiofs tvix ended: 0", "vmm snix ended: 0", "virtiofs snix ended: 0", "script done",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the output", want)
		}
	}
	if t.Failed() {
		t.Logf("output:\n%s", out)
	}
}
