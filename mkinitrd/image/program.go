package image

import (
	"debug/elf"
	"errors"
	"fmt"
	"strings"
)

// machines are the ELF machines of the architectures, as GOARCH.
var machines = map[string]elf.Machine{
	"amd64": elf.EM_X86_64, "386": elf.EM_386, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV,
}

// checkProgram says whether the kernel can start file as it stands in an image:
// an ELF file for its architecture that needs no other.
func checkProgram(file, arch string) error {
	f, err := elf.Open(file)
	if err != nil {
		var format *elf.FormatError
		if errors.As(err, &format) || strings.Contains(err.Error(), "EOF") {
			return fmt.Errorf("%s: not a program (an ELF file)", file)
		}
		return err
	}
	defer f.Close()
	if want := machines[arch]; f.Machine != want {
		return fmt.Errorf("%s: is for %v, the kernel for %v", file, f.Machine, want)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("%s: not a program (%v)", file, f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s: is linked to shared libraries, which the image lacks: link it statically (CGO_ENABLED=0 go build)", file)
		}
	}
	return nil
}
