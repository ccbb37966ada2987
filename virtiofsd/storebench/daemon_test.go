package storebench

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"storeboot/virtiofsd/grpcstore"
)

// lookups is how many path infos are looked up before memory is measured again.
const lookups = 100_000

// startDaemon starts the daemon and waits until somebody listens.
func startDaemon(b *testing.B, program, store, socket string) *exec.Cmd {
	cmd := command(program, "daemon", "-l", socket, "--store", store, "--log-level", "error")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	for begin := time.Now(); ; time.Sleep(200 * time.Microsecond) {
		c, err := net.Dial("unix", socket)
		if err == nil {
			_ = c.Close()
			return cmd
		}
		if time.Since(begin) > time.Minute {
			_ = cmd.Process.Kill()
			b.Fatalf("the daemon does not listen: %s", stderr.String())
		}
	}
}

func stopDaemon(b *testing.B, cmd *exec.Cmd) {
	err := cmd.Process.Signal(syscall.SIGTERM)
	if err = errors.Join(err, cmd.Wait()); err != nil {
		b.Error(err)
	}
}

// BenchmarkDaemon measures the daemon's resident memory on a store of a million
// paths, after its first answer and after 100,000 more.
func BenchmarkDaemon(b *testing.B) {
	program, store := build(b), storeOf(b, manyPaths)
	socket := filepath.Join(socketDir(b), "s")
	var first, later int
	for b.Loop() {
		cmd := startDaemon(b, program, store, socket)
		c := dial(b, socket)
		look := lookPathInfo(b, c.PathInfos())
		look(0)
		first = resident(b, cmd)
		for i := range lookups {
			look(i * (manyPaths / lookups))
		}
		later = resident(b, cmd)
		stopDaemon(b, cmd)
	}
	b.ReportMetric(float64(first)/1024, "started-MiB")
	b.ReportMetric(float64(later)/1024, "later-MiB")
}

// socketDir is a directory whose path is short, as that of a socket has to be.
func socketDir(b *testing.B) string {
	dir, err := os.MkdirTemp("", "sb")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// resident is VmRSS of a process, in KiB.
func resident(b *testing.B, cmd *exec.Cmd) (kib int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}

// BenchmarkColdStart starts processes on a store of a million paths, by turns:
//
//   - daemon: from exec to the first answered request, a path info;
//   - list: virtiofsd list until its first line, and its end;
//   - stat: virtiofsd stat of one path;
//   - version: the floor of the program: virtiofsd --version;
//   - true: the floor of any program: exec of /bin/true.
func BenchmarkColdStart(b *testing.B) {
	program, store := build(b), storeOf(b, manyPaths)
	socket := filepath.Join(socketDir(b), "s")
	times := stopwatch{}
	for b.Loop() {
		var cmd *exec.Cmd
		times.time("daemon", func() {
			cmd = startDaemon(b, program, store, socket)
			c, err := grpcstore.Dial(b.Context(), "grpc+unix://"+socket, grpcstore.Options{SpoolDir: os.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			lookPathInfo(b, c.PathInfos())(manyPaths / 2)
		})
		stopDaemon(b, cmd)
		times.time("list", func() { listFirst(b, command(program, "list", "--store", store)) })
		times.time("stat", func() { run(b, program, "stat", "--store", store, Path(manyPaths/3).Absolute()) })
		times.time("version", func() { run(b, program, "--version") })
		times.time("true", func() { run(b, "/bin/true") })
	}
	b.ReportMetric(0, "ns/op")
	for name := range times {
		b.ReportMetric(times.median(name)*1000, name+"-ms")
	}
}

// listFirst reads one line and closes the pipe, as head -1 does.
func listFirst(b *testing.B, cmd *exec.Cmd) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	if _, err := bufio.NewReaderSize(out, 100).ReadString('\n'); err != nil && !errors.Is(err, io.EOF) {
		b.Error(err)
	}
	_ = out.Close()
	_ = cmd.Wait() // by SIGPIPE
}
