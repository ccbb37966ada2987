package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	vt "storeboot/virtiofsd/vhostuser/vhostusertest"
)

// TestKilledServe kills the daemon of a guest that has many requests in flight at
// random moments, by SIGKILL, or by SIGTERM as an upgrade does, and starts
// another one: the guest notices nothing, each request is answered once, and
// rightly.
func TestKilledServe(t *testing.T) {
	store := filepath.Join(t.TempDir(), "store")
	args := []string{"import", "--store", store}
	const files = 20
	dir := t.TempDir()
	contents := map[string]string{}
	for i := range files {
		contents[fmt.Sprintf("file%02d", i)] = strings.Repeat(fmt.Sprint(i), 1000+i)
		args = append(args, filepath.Join(dir, fmt.Sprintf("file%02d", i)))
	}
	write(t, dir, contents)
	paths := strings.Fields(must(t, args...))
	if len(paths) != files {
		t.Fatalf("%d paths", len(paths))
	}
	socket := filepath.Join(shortDir(t), "s")
	start := func() func(syscall.Signal) {
		cmd := process("serve", "--store", store, "--socket-path", socket, "--log-level", "error")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return func(s syscall.Signal) {
			_ = cmd.Process.Signal(s)
			_ = cmd.Wait() // it was killed
		}
	}
	patiently := func(connect func() error) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			err := connect()
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
		}
	}
	kill := start()
	var g *vt.Guest
	patiently(func() (err error) {
		g, err = vt.Mount(socket, vt.GuestOptions{Inflight: true})
		return err
	})
	defer g.Close()
	want := make([]int, 32) // by slot: the size of the file that was asked for
	sent, answered, interrupted := 0, 0, 0
	send := func() {
		i := rand.N(files)
		slot, err := g.Send(vt.FuseRequest{Opcode: vt.FuseLookup, Node: 1, Payload: append([]byte(filepath.Base(paths[i])), 0), Room: 128})
		if err != nil {
			t.Fatal(err)
		}
		want[slot] = len(contents[fmt.Sprintf("file%02d", i)])
		sent++
	}
	receive := func() (ok bool) {
		a, err := g.Receive()
		if errors.Is(err, vt.ErrNoAnswer) {
			return false
		}
		if err != nil || a.Errno != 0 || len(a.Payload) != 128 || int(binary.LittleEndian.Uint64(a.Payload[48:])) != want[a.Slot] {
			t.Fatalf("answer %d: %v, errno %v, %d bytes", answered, err, a.Errno, len(a.Payload))
		}
		answered++
		return true
	}
	rounds := 40
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		dead := make(chan struct{})
		time.AfterFunc(rand.N(30*time.Millisecond), func() {
			defer close(dead)
			kill([]syscall.Signal{syscall.SIGKILL, syscall.SIGTERM}[round%2])
		})
		g.Limit = 20 * time.Millisecond
		for running := true; running; {
			for g.InFlight() < 1+round%32 {
				send()
			}
			if receive() {
				continue
			}
			select {
			case <-dead:
				running = false
			default:
			}
		}
		if g.InFlight() > 0 {
			interrupted++
		}
		kill = start()
		g.Limit = 30 * time.Second
		patiently(func() error { return g.Resume(socket) })
		// What was in flight comes without another request.
		for g.InFlight() > 0 {
			if !receive() {
				t.Fatalf("round %d: %d of %d requests are lost", round, g.InFlight(), sent)
			}
		}
	}
	kill(syscall.SIGTERM)
	if sent != answered || g.Q.Answers() != 0 || interrupted < rounds/2 {
		t.Errorf("%d requests, %d answers and %d more, %d of %d kills with requests in flight", sent, answered, g.Q.Answers(), interrupted, rounds)
	}
	t.Logf("%d requests were answered by %d daemons; %d kills with requests in flight", sent, rounds+1, interrupted)
}
