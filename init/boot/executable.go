package boot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path"
	"runtime"
	"strings"
	"syscall"
)

// checkExecutable says whether the kernel will execute the file name, and the
// interpreter that the file names, with root as the root directory. name has
// no symbolic links in it.
func (b *boot) checkExecutable(root, name string) error {
	if err := b.checkMode(root, name); err != nil {
		return err
	}
	interp, err := b.interpreter(root, name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if interp == "" {
		return nil
	}
	resolved, err := b.sys.Resolve(root, interp)
	if err == nil {
		err = b.checkMode(root, resolved)
	}
	if err != nil {
		return fmt.Errorf("%s: its interpreter %s: %w", name, interp, err)
	}
	return nil
}

func (b *boot) checkMode(root, name string) error {
	st, err := b.sys.Stat(path.Join(root, name))
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", name, err)
	case !isType(st.Mode, syscall.S_IFREG):
		return fmt.Errorf("%s: not a regular file", name)
	case st.Mode&0o111 == 0:
		return fmt.Errorf("%s: not executable", name)
	}
	return nil
}

// interpreter returns the program that the kernel starts to run the file name
// below root: that of "#!" or of ELF, "" for a static ELF program.
func (b *boot) interpreter(root, name string) (string, error) {
	f, err := b.sys.Open(path.Join(root, name))
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readInterpreter(f)
}

// errFormat is the error for what is neither a script nor ELF.
var errFormat = errors.New("neither an ELF program nor a script that begins with #!")

// scriptLine is how much of a script's first line the kernel reads
// (include/uapi/linux/binfmts.h, BINPRM_BUF_SIZE).
const scriptLine = 256

// readInterpreter reads the name of the interpreter out of f.
func readInterpreter(f io.ReaderAt) (string, error) {
	head := make([]byte, scriptLine)
	n, err := f.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	head = head[:n]
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		line, _, _ := bytes.Cut(head[2:], []byte("\n"))
		words := strings.Fields(string(line))
		if len(words) == 0 || !path.IsAbs(words[0]) {
			return "", errors.New("its #! line names no absolute path")
		}
		return words[0], nil
	case bytes.HasPrefix(head, []byte("\x7fELF")):
		return elfInterpreter(f, head)
	}
	return "", errFormat
}

// Limits of elfInterpreter: a program header table has a dozen entries, and a
// path at most PATH_MAX bytes.
const (
	maxHeaders = 256
	maxPath    = 4096
)

// elfInterpreter finds PT_INTERP in a little-endian ELF file (gABI 4.1,
// chapters 4 and 5; all architectures that we boot are little-endian).
func elfInterpreter(f io.ReaderAt, head []byte) (string, error) {
	const (
		class64, littleEndian = 2, 1
		interp                = 3 // PT_INTERP
	)
	le := binary.LittleEndian
	if len(head) < 64 {
		return "", fmt.Errorf("ELF header: %w", io.ErrUnexpectedEOF)
	}
	if head[5] != littleEndian {
		return "", errors.New("ELF: big-endian: made for another machine")
	}
	if machine := le.Uint16(head[18:]); !runsHere(machine) {
		return "", fmt.Errorf("ELF: made for another architecture (machine %d of elf.h) than this %s", machine, runtime.GOARCH)
	}
	wide := head[4] == class64
	var table uint64
	var size, count int
	if wide {
		table, size, count = le.Uint64(head[32:]), int(le.Uint16(head[54:])), int(le.Uint16(head[56:]))
	} else {
		table, size, count = uint64(le.Uint32(head[28:])), int(le.Uint16(head[42:])), int(le.Uint16(head[44:]))
	}
	least := 32
	if wide {
		least = 56
	}
	if size < least || size > 1024 || count > maxHeaders || table > 1<<62 {
		return "", errors.New("ELF: impossible program headers")
	}
	headers := make([]byte, size*count)
	if _, err := f.ReadAt(headers, int64(table)); err != nil && count > 0 {
		return "", fmt.Errorf("ELF program headers: %w", noEOF(err))
	}
	for ; len(headers) > 0; headers = headers[size:] {
		if le.Uint32(headers) != interp {
			continue
		}
		offset, length := uint64(le.Uint32(headers[4:])), uint64(le.Uint32(headers[16:]))
		if wide {
			offset, length = le.Uint64(headers[8:]), le.Uint64(headers[32:])
		}
		if length < 2 || length > maxPath || offset > 1<<62 {
			return "", errors.New("ELF: impossible interpreter")
		}
		name := make([]byte, length)
		if _, err := f.ReadAt(name, int64(offset)); err != nil {
			return "", fmt.Errorf("ELF interpreter: %w", noEOF(err))
		}
		s, _, _ := bytes.Cut(name, []byte{0})
		if !path.IsAbs(string(s)) {
			return "", fmt.Errorf("ELF: interpreter %q is not an absolute path", s)
		}
		return string(s), nil
	}
	return "", nil
}

// runsHere says whether the kernel of this architecture executes programs of
// the ELF machine (gABI, e_machine), its 32-bit ones among them.
func runsHere(machine uint16) bool {
	const x86, arm, amd64, arm64, riscv = 3, 40, 62, 183, 243
	switch runtime.GOARCH {
	case "amd64":
		return machine == amd64 || machine == x86
	case "arm64":
		return machine == arm64 || machine == arm
	case "riscv64":
		return machine == riscv
	}
	return true
}

// noEOF makes a file that is too short an error of its own.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
