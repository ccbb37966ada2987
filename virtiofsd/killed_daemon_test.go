package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemonRun is a daemon in a process of its own and the flags of its store.
type daemonRun struct {
	cmd     *exec.Cmd
	address string
}

func startDaemon(t *testing.T, store, socket string) daemonRun {
	t.Helper()
	cmd := process("daemon", "-l", socket, "--store", store, "--log-level", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = dialDaemon(t, socket).Close()
	return daemonRun{cmd, "grpc+unix://" + socket}
}

// flags are the three addresses of the daemon's store; prefix is "" or "to-".
func (d daemonRun) flags(prefix string) []string {
	var list []string
	for _, service := range []string{"blob", "directory", "path-info"} {
		list = append(list, fmt.Sprintf("--%s%s-service-addr", prefix, service), d.address)
	}
	return list
}

func (d daemonRun) kill() {
	_ = d.cmd.Process.Kill()
	_ = d.cmd.Wait() // it was killed
}

// killDaemons kills daemons at random moments while a client imports or copies
// to them: what the client reported as stored stays, the store is whole, and the
// same client completes with another daemon. A client never reports anything
// that a dead daemon has taken with it, nor does it hang.
func killDaemons(t *testing.T, n int, dir string) {
	store, source, socket := dir+"/daemon", dir+"/source", shortDir(t)+"/s"
	var reported []string
	took := map[string]time.Duration{} // of a client, to its end
	client := func(kind string, i int, d daemonRun) (args []string, paths []string) {
		if kind == "import" {
			return append([]string{"import", smallTree(t, 300_000+2*i), smallTree(t, 300_001+2*i)}, d.flags("")...), nil
		}
		paths = strings.Fields(must(t, "import", "--store", source, smallTree(t, 400_000+2*i), smallTree(t, 400_001+2*i)))
		return slices.Concat([]string{"copy", "--store", source}, d.flags("to-"), paths), paths
	}
	killed, started, failed := 0, 0, 0
	for ; killed < n && started < 10*n; started++ {
		kind := []string{"import", "copy"}[started%2]
		d := startDaemon(t, store, socket)
		if took[kind] == 0 { // measure it first
			args, _ := client(kind, -1-started, d)
			begin := time.Now()
			if out, err := process(args...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %s", kind, err, out)
			}
			took[kind] = time.Since(begin)
		}
		args, _ := client(kind, started, d)
		cmd := process(args...)
		var stdout, stderr strings.Builder
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		dead := make(chan struct{})
		timer := time.AfterFunc(rand.N(took[kind]+took[kind]/10), func() { d.kill(); close(dead) })
		err := cmd.Wait()
		if timer.Stop() { // the client was faster
			d.kill()
		} else {
			<-dead
			killed++
		}
		if err != nil {
			failed++
			if strings.Count(stderr.String(), "\n") != 1 || !strings.Contains(stderr.String(), socket) {
				t.Errorf("%s fails with %q", kind, stderr.String())
			}
		}
		reported = append(reported, strings.Fields(stdout.String())...)
		holds(t, store, reported)
		if started%4 < 2 { // a rerun completes
			d := startDaemon(t, store, socket)
			for i, arg := range args {
				if strings.HasPrefix(arg, "grpc+unix:") {
					args[i] = d.address
				}
			}
			out, err := process(args...).Output()
			d.kill()
			if err != nil {
				t.Fatalf("a second %s: %v", kind, err)
			}
			reported = append(reported, strings.Fields(string(out))...)
			holds(t, store, reported)
		}
		if started%10 == 9 { // else each verify takes longer than the one before
			reported = reported[len(reported)-2:]
			must(t, append(roots(reported), "--store", store)...)
			if err := os.RemoveAll(source); err != nil {
				t.Fatal(err)
			}
		}
	}
	if killed < n || failed == 0 {
		t.Errorf("%d daemons of %d were killed, and %d clients failed", killed, started, failed)
	}
	t.Logf("%d daemons of %d were killed, and %d clients failed", killed, started, failed)
}
