package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"storeboot/internal/cli"
)

// askHealth asks the daemon at the other end of conn how it is, and hangs up.
func askHealth(t *testing.T, conn net.Conn) {
	t.Helper()
	given := false
	client, err := grpc.NewClient("passthrough:///daemon", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			if given {
				return nil, errors.New("there is one connection")
			}
			given = true
			return conn, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := healthv1.NewHealthClient(client).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || r.Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", r, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
}

// stdioDaemon runs the daemon on its standard streams and returns its end.
func stdioDaemon(t *testing.T, address string, in io.Reader, out io.Writer) <-chan string {
	t.Helper()
	clearDropInEnv(t)
	for _, a := range serviceAddresses {
		t.Setenv(a, "memory://")
	}
	ended := make(chan string, 1)
	go func() {
		var stderr bytes.Buffer
		code := cli.Run(t.Context(), newDropInCommand("snix-store"), []string{"--log-level=warn", "daemon", "-l", address}, cli.Streams{In: in, Out: out, Err: &stderr})
		if code != 0 {
			stderr.WriteString("exit with an error")
		}
		ended <- stderr.String()
	}()
	return ended
}

// TestDropInPipes serves a program that has started the daemon with pipes.
func TestDropInPipes(t *testing.T) {
	in, toDaemon := io.Pipe()
	fromDaemon, out := io.Pipe()
	ended := stdioDaemon(t, "-", in, out)
	askHealth(t, &pipeConn{in: fromDaemon, out: toDaemon})
	if stderr := <-ended; stderr != "" {
		t.Errorf("the daemon does not end with its connection: %s", stderr)
	}
}

// TestDropInInetd serves on the socket that is standard input.
func TestDropInInetd(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := stdioDaemon(t, "inetd", theirs, io.Discard)
	askHealth(t, conn)
	if stderr := <-ended; stderr != "" {
		t.Errorf("the daemon does not end with its connection: %s", stderr)
	}
}

func TestDropInStdioRefuses(t *testing.T) {
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if stderr := <-stdioDaemon(t, "stdio", null, io.Discard); !strings.Contains(stderr, "is no connection") {
		t.Errorf("from /dev/null: %s", stderr)
	}
}

// TestDropInVsock connects by the loopback of virtual sockets.
func TestDropInVsock(t *testing.T) {
	l, err := listenVsock("-1:-1") // any address, a free port
	if err != nil {
		t.Skipf("SKIP: this kernel has no virtual sockets: %v", err)
	}
	accepted := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			_ = c.Close()
		}
		accepted <- err
	}()
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-accepted; err != nil && !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	}()
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := os.NewFile(uintptr(fd), "client")
	defer conn.Close()
	if err := unix.Connect(fd, &unix.SockaddrVM{CID: unix.VMADDR_CID_LOCAL, Port: l.addr.port}); err != nil {
		t.Skipf("SKIP: this kernel has no loopback of virtual sockets (modprobe vsock_loopback): %v", err)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
}
