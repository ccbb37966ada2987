package kbuild

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strings"

	"storeboot/kernelconfig/fragment"
)

// toolchain is what builds the kernel.
type toolchain struct {
	arch  fragment.Arch
	cross string // prefix of the compiler's name
	// versions are the first lines in which the compiler and the linker name
	// themselves.
	versions []string
}

// needed are programs that a build calls, and the Debian packages they are in.
var needed = []struct{ program, pkg string }{
	{"make", "make"}, {"flex", "flex"}, {"bison", "bison"}, {"bc", "bc"}, {"tar", "tar"}, {"xz", "xz-utils"}, {"perl", "perl"},
}

// findToolchain looks for all that a build needs, and names all that is missing
// at once.
func findToolchain(ctx context.Context, arch fragment.Arch, cross string) (*toolchain, error) {
	t := &toolchain{arch: arch, cross: cross}
	gcc := "gcc"
	if string(arch) != runtime.GOARCH && cross == "" {
		switch arch {
		case fragment.ARM64:
			t.cross, gcc = "aarch64-linux-gnu-", "gcc-aarch64-linux-gnu"
		case fragment.AMD64:
			t.cross, gcc = "x86_64-linux-gnu-", "gcc-x86-64-linux-gnu"
		}
	}
	var missing, packages []string
	look := func(program, pkg string) {
		if _, err := exec.LookPath(program); err != nil {
			missing, packages = append(missing, program), append(packages, pkg)
		}
	}
	for _, n := range needed {
		look(n.program, n.pkg)
	}
	look("gcc", "gcc") // for the programs of the build itself
	if t.cross != "" {
		look(t.cross+"gcc", gcc)
	}
	if missing != nil {
		return nil, fmt.Errorf("build kernel: %s missing (apt-get install %s libelf-dev)", strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	for _, program := range []string{t.cross + "gcc", t.cross + "ld"} {
		out, err := exec.CommandContext(ctx, program, "--version").Output()
		if err != nil {
			return nil, fmt.Errorf("build kernel: %s --version: %w", program, err)
		}
		line, _, _ := strings.Cut(string(out), "\n")
		if line == "" {
			return nil, errors.New("build kernel: " + program + " does not say its version")
		}
		t.versions = append(t.versions, line)
	}
	return t, nil
}

// kernelArch is the kernel's own name of the architecture.
func (t *toolchain) kernelArch() string {
	if t.arch == fragment.ARM64 {
		return "arm64"
	}
	return "x86_64"
}

// image is the make target of the image that boot loaders take, and its file.
func (t *toolchain) image() (target, file string) {
	if t.arch == fragment.ARM64 {
		return "Image", "arch/arm64/boot/Image"
	}
	return "bzImage", "arch/x86/boot/bzImage"
}
