// Package prebuilt has the programs that a released mkinitrd carries, so that it
// builds images on a machine without Go: init, the shell, and the commands of
// the built-in templates as one program.
//
// They are files below programs/, which "mkinitrd embed" writes before mkinitrd
// is built for a release:
//
//	programs/ARCH/init.zst   a program, compressed with zstd
//	programs/ARCH/sh.zst
//	programs/ARCH/bb.zst     u-root's commands
//	programs/ARCH/commands   the names that bb answers to, one a line
//
// A mkinitrd that was built without them has none, and says so by
// [ErrNone]. The files are as trustworthy as the program that they are part of.
package prebuilt

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
)

//go:embed all:programs
var programs embed.FS

// ErrNone says that this mkinitrd does not carry the program.
var ErrNone = errors.New("this mkinitrd carries none")

// Names of the programs.
const (
	Init     = "init"
	Shell    = "sh"
	Busybox  = "bb"
	commands = "commands"
)

// Program returns the compressed program for the architecture, as GOARCH, which
// is a key to what [Unpack] makes of it. The error wraps [ErrNone] if there is
// none.
func Program(arch, name string) ([]byte, error) {
	data, err := programs.ReadFile("programs/" + arch + "/" + name + ".zst")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNone
	}
	return data, err
}

// Commands are the names that the program [Busybox] answers to.
func Commands(arch string) []string {
	data, err := programs.ReadFile("programs/" + arch + "/" + commands)
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// Unpack writes a compressed program to a file that can be executed.
func Unpack(program []byte, file string) error {
	z, err := zstd.NewReader(bytes.NewReader(program))
	if err != nil {
		return err
	}
	defer z.Close()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, z); err != nil {
		_ = f.Close()
		return fmt.Errorf("unpack program: %w", err)
	}
	return f.Close()
}

// Pack writes the programs, files by name, and the names of the commands for
// one architecture into the directory of a source tree that is embedded.
func Pack(dir, arch string, files map[string]string, names []string) error {
	dir = filepath.Join(dir, arch)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		return err
	}
	defer z.Close()
	for name, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name+".zst"), z.EncodeAll(data, nil), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(dir, commands), []byte(strings.Join(names, "\n")+"\n"), 0o644)
}
