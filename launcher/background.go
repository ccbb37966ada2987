package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"storeboot/internal/cli"
	"storeboot/launcher/control"
	"storeboot/launcher/session"
	"storeboot/launcher/vmlog"
)

// backgroundVariable tells a launcher that it is the process that runs a VM in
// the background; its value is the descriptor on which it says that it has
// begun.
const backgroundVariable = "STOREBOOT_BACKGROUND_FD"

// Files of a VM in the background, in its directory.
const (
	programLog  = "program.log"
	consoleLog  = "console.log"
	launcherLog = "launcher.log"
)

// begun is what the process in the background says: the VM's name, or why there
// is none.
type begun struct {
	Name    string `json:"name,omitempty"`
	Status  int    `json:"status,omitempty"`
	Message string `json:"message,omitempty"`
}

// background is what a launcher has that runs a VM in the background.
type background struct {
	console  *control.Console
	program  vmlog.Log
	kernel   vmlog.Log
	launcher vmlog.Log

	once sync.Once
	to   *os.File
	name string
}

// takeBackground is the background of this process, nil if it is in the
// foreground. Children do not see it.
func takeBackground() *background {
	fd, err := strconv.Atoi(os.Getenv(backgroundVariable))
	if err != nil || fd < 3 {
		return nil
	}
	_ = os.Unsetenv(backgroundVariable)
	syscall.CloseOnExec(fd)
	return &background{console: control.NewConsole(), to: os.NewFile(uintptr(fd), "begun")}
}

// say tells the process in the foreground, once.
func (b *background) say(what begun) {
	b.once.Do(func() {
		if data, err := json.Marshal(what); err == nil {
			_, _ = b.to.Write(append(data, '\n'))
		}
		_ = b.to.Close()
	})
}

// failed tells of an error before the VM had begun.
func (b *background) failed(err error) {
	what := begun{Status: cli.ExitFailure}
	var status *cli.StatusError
	var usage *cli.UsageError
	switch {
	case errors.As(err, &status):
		what.Status = status.Status
		if status.Err != nil {
			what.Message = status.Err.Error()
		}
	case errors.As(err, &usage):
		what.Status, what.Message = cli.ExitUsage, err.Error()
	case err != nil:
		what.Message = err.Error()
	default:
		what.Status, what.Name = 0, b.name // it has ended already
	}
	b.say(what)
}

// connect makes a session of this configuration one in the background.
func (b *background) connect(config *session.Config, program bool) {
	config.Keep = []string{}
	for _, name := range []string{programLog, consoleLog, launcherLog} {
		config.Keep = append(config.Keep, name, name+vmlog.OldSuffix)
	}
	if program {
		config.ProgramOut = io.MultiWriter(&b.program, b.console)
		config.SerialOut = &b.kernel
		if config.ProgramErr != nil {
			config.ProgramErr = config.ProgramOut
		}
	} else {
		config.SerialOut = io.MultiWriter(&b.program, b.console)
	}
	config.Log, config.ErrOut = newLog(&b.launcher), &b.launcher
	config.Started = func() { b.say(begun{Name: b.name}) }
	config.Begin = func(h *session.Handle) (func(), error) {
		b.name = h.Dir().Name()
		for log, name := range map[*vmlog.Log]string{&b.program: programLog, &b.kernel: consoleLog, &b.launcher: launcherLog} {
			if err := log.Open(h.Dir().File(name)); err != nil {
				return nil, err
			}
		}
		s, err := control.Serve(h.Dir().Control(), h, b.console)
		if err != nil {
			return nil, err
		}
		return func() {
			b.console.Close()
			s.Close()
			_ = errors.Join(b.program.Close(), b.kernel.Close(), b.launcher.Close())
		}, nil
	}
}

// runDetached starts this command again in the background, waits until its VM
// has begun, and prints its name or attaches to it.
func (j *job) runDetached(ctx context.Context) error {
	// What is wrong with the flags is said here.
	if _, err := j.check(); err != nil {
		return err
	}
	if _, err := j.parseDevices(); err != nil {
		return err
	}
	if j.report != "" {
		return cli.Usagef("--report is for VMs in the foreground")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), backgroundVariable+"=3")
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return fmt.Errorf("start the VM's launcher: %w", err)
	}
	// Whoever gives up on it leaves no VM.
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGHUP) })
	line, readErr := bufio.NewReader(r).ReadBytes('\n')
	if !stop() {
		_ = cmd.Wait()
		return context.Cause(ctx)
	}
	var what begun
	if readErr == nil {
		readErr = json.Unmarshal(line, &what)
	}
	switch {
	case readErr != nil:
		err := cmd.Wait()
		return fmt.Errorf("the VM's launcher ended at its start: %v", err)
	case what.Status != 0 || what.Message != "":
		_ = cmd.Wait()
		status := &cli.StatusError{Status: what.Status}
		if what.Message != "" {
			status.Err = errors.New(what.Message)
		}
		return status
	}
	_ = cmd.Process.Release()
	if !j.attach {
		_, err := fmt.Fprintln(j.out, what.Name)
		return err
	}
	return attachTo(ctx, j, what.Name)
}

var _ control.VM = (*session.Handle)(nil)
