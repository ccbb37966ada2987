package bigtabletest

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cloud.google.com/go/bigtable"
	"cloud.google.com/go/bigtable/bttest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The variables that tell a test program to be the emulator.
const (
	fileEnv    = "STOREBOOT_TEST_BIGTABLE"
	addressEnv = "STOREBOOT_TEST_BIGTABLE_ADDRESS"
)

// ready is what the process prints, followed by its address.
const ready = "bigtable emulator on "

// Server is a running emulator. It ends with its test.
type Server struct {
	// Address is HOST:PORT, to be named by BIGTABLE_EMULATOR_HOST.
	Address string

	test    string
	file    string
	process *exec.Cmd
}

// Serve makes the test program the emulator if [Start] has started it, and does
// not return then. A package that uses Start has a test that does nothing else,
// and gives Start its name.
func Serve(t *testing.T) {
	t.Helper()
	file := os.Getenv(fileEnv)
	if file == "" {
		return
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", os.Getenv(addressEnv))
	if err != nil {
		t.Fatal(err)
	}
	j := &journal{file: f, ready: make(chan struct{})}
	const most = 256 << 20 // bytes of a message
	s, err := bttest.NewServerWithListener(l, grpc.UnaryInterceptor(j.unary), grpc.StreamInterceptor(j.stream), grpc.MaxRecvMsgSize(most), grpc.MaxSendMsgSize(most))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.replay(context.Background(), conn); err != nil {
		t.Fatal(err)
	}
	close(j.ready)
	fmt.Println(ready + s.Addr)
	select {} // until killed
}

// Start starts an emulator without tables. test is the name of the test that
// calls [Serve].
func Start(t testing.TB, test string) *Server {
	t.Helper()
	s := &Server{Address: "127.0.0.1:0", test: test, file: filepath.Join(t.TempDir(), "journal")}
	s.Run(t)
	t.Cleanup(func() { s.Kill(t) })
	return s
}

// Run starts the process, at the start and after Kill.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	s.process = exec.Command(os.Args[0], "-test.run=^"+s.test+"$")
	s.process.Env = append(os.Environ(), fileEnv+"="+s.file, addressEnv+"="+s.Address)
	s.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := s.process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.process.Start(); err != nil {
		t.Fatal(err)
	}
	var said []string
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), ready); ok {
			s.Address = address
			return
		}
		said = append(said, lines.Text())
	}
	t.Fatalf("the emulator does not start: %q", said)
}

// Kill ends the process at once.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.process.Process.Kill(); err != nil && err != os.ErrProcessDone {
		t.Error(err)
	}
	_ = s.process.Wait() // it was killed
}

// Table makes a table with one family, has this process and those that it starts
// use the emulator, and returns the address of the table.
func (s *Server) Table(t testing.TB, name string) string {
	t.Helper()
	t.Setenv("BIGTABLE_EMULATOR_HOST", s.Address)
	const family = "cf1"
	admin, err := bigtable.NewAdminClient(t.Context(), "project", "instance")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	if err := admin.CreateTable(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if err := admin.CreateColumnFamily(t.Context(), name, family); err != nil {
		t.Fatal(err)
	}
	return "bigtable://instance?project_id=project&table_name=" + name + "&family_name=" + family
}
