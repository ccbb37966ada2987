package boot

import (
	"syscall"

	"golang.org/x/sys/unix"

	"storeboot/init/agent"
)

// StartAgent executes this program's own file again: there may be no other way
// to it, since a root directory that was left has been emptied.
func (*machine) StartAgent(args []string) error {
	fd, err := open("/dev/null", unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = syscall.ForkExec("/proc/self/exe", append([]string{agent.Name}, args...), &syscall.ProcAttr{
		Dir: "/", Env: []string{"PATH=/bin:/sbin"}, Sys: &syscall.SysProcAttr{Setsid: true},
		Files: []uintptr{uintptr(fd), uintptr(fd), uintptr(fd)},
	})
	return err
}
