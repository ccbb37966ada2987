package sandbox

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"unsafe"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock"
	llsys "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/psx"
)

// Options say what is still needed.
type Options struct {
	// ReadWrite and ReadOnly are files and directories, the latter with all below
	// them. What does not exist is passed over.
	ReadWrite, ReadOnly []string
	// Remove are directories in which files may be removed: sockets at the end.
	Remove []string
	// Strict fails if the kernel lacks Landlock or seccomp; otherwise the process
	// does without.
	Strict bool
}

// Report says what was done.
type Report struct {
	// Landlock is the version of the kernel's interface, 0 if there is none.
	Landlock int
	Seccomp  bool
	// Capabilities are those that are left, "none" or "keep": files of the store
	// belong to another user than root.
	Capabilities string
}

// Enter takes from the process what it does not need.
func Enter(o Options) (Report, error) {
	var r Report
	var err error
	if r.Capabilities, err = dropCapabilities(o.ReadWrite); err != nil {
		return r, fmt.Errorf("sandbox: drop capabilities: %w", err)
	}
	if _, _, errno := psx.Syscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
		return r, fmt.Errorf("sandbox: set no_new_privs: %w", errno)
	}
	if r.Landlock, err = llsys.LandlockGetABIVersion(); err != nil {
		r.Landlock = 0
	}
	if r.Landlock == 0 && o.Strict {
		return r, errors.New("sandbox: this kernel has no Landlock, or it is not in its list of security modules (lsm=): use --sandbox=auto or none")
	}
	if r.Landlock > 0 {
		rules := []landlock.Rule{}
		for _, path := range o.ReadWrite {
			rules = append(rules, rule(path, landlock.RWDirs, landlock.RWFiles, true))
		}
		for _, path := range o.ReadOnly {
			rules = append(rules, rule(path, landlock.RODirs, landlock.ROFiles, false))
		}
		for _, path := range o.Remove {
			rules = append(rules, landlock.PathAccess(llsys.AccessFSRemoveFile, path).IgnoreIfMissing())
		}
		rules = slices.DeleteFunc(rules, func(r landlock.Rule) bool { return r == nil })
		if err := landlock.V5.BestEffort().RestrictPaths(rules...); err != nil {
			return r, fmt.Errorf("sandbox: %w", err)
		}
	}
	r.Seccomp = seccomp.Supported()
	if !r.Seccomp {
		if o.Strict {
			return r, errors.New("sandbox: this kernel has no seccomp filters: use --sandbox=auto or none")
		}
		return r, nil
	}
	names, err := allowed()
	if err != nil {
		return r, fmt.Errorf("sandbox: %w", err)
	}
	filter := seccomp.Filter{
		NoNewPrivs: true,
		Flag:       seccomp.FilterFlagTSync,
		Policy: seccomp.Policy{
			DefaultAction: seccomp.ActionErrno,
			Syscalls:      []seccomp.SyscallGroup{{Action: seccomp.ActionAllow, Names: names}},
		},
	}
	if err := seccomp.LoadFilter(filter); err != nil {
		return r, fmt.Errorf("sandbox: %w", err)
	}
	return r, nil
}

// rule is the rule for a path, nil if there is nothing there.
func rule(path string, dirs, files func(...string) landlock.FSRule, write bool) landlock.Rule {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return nil
	case !st.IsDir():
		return files(path)
	case write:
		return dirs(path).WithRefer() // files are made in one directory and named in another
	}
	return dirs(path)
}

// dropCapabilities drops all capabilities, but those to pass over the permissions
// of files if root serves files of others.
func dropCapabilities(files []string) (string, error) {
	var keep uint32
	left := "none"
	for _, path := range files {
		var st unix.Stat_t
		if os.Geteuid() == 0 && unix.Stat(path, &st) == nil && st.Uid != 0 {
			keep, left = 1<<unix.CAP_DAC_OVERRIDE|1<<unix.CAP_DAC_READ_SEARCH, "keep"
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var now [2]unix.CapUserData
	if err := unix.Capget(&header, &now[0]); err != nil {
		return "", err
	}
	data := [2]unix.CapUserData{{Effective: keep & now[0].Effective, Permitted: keep & now[0].Permitted}}
	_, _, errno := psx.Syscall3(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&header)
	runtime.KeepAlive(&data)
	if errno != 0 {
		return "", errno
	}
	return left, nil
}

// allowed are the system calls that a Go program with files, memory, sockets and
// threads needs, on this machine's architecture. No other program can be begun, no
// file system mounted, no process looked at, no module loaded.
func allowed() ([]string, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	all := []string{
		// Memory, threads, time, signals: the runtime.
		"brk", "mmap", "munmap", "mprotect", "madvise", "mremap", "mincore", "msync", "memfd_create", "membarrier", "rseq",
		"clone", "clone3", "futex", "futex_waitv", "set_robust_list", "get_robust_list", "sched_yield", "sched_getaffinity",
		"sched_setaffinity", "set_tid_address", "gettid", "getpid", "getppid", "tgkill", "tkill", "kill", "exit", "exit_group",
		"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "getcpu", "getrandom",
		"timer_create", "timer_settime", "timer_delete", "setitimer", "getitimer", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn",
		"sigaltstack", "rt_sigtimedwait", "rt_sigqueueinfo", "restart_syscall", "arch_prctl", "prctl", "prlimit64", "getrlimit",
		"getrusage", "uname", "sysinfo", "getuid", "geteuid", "getgid", "getegid", "getgroups", "wait4", "waitid", "capget",
		// Files, below the paths that Landlock leaves.
		"read", "pread64", "readv", "preadv", "preadv2", "write", "pwrite64", "writev", "pwritev", "pwritev2", "open", "openat",
		"openat2", "close", "close_range", "creat", "lseek", "stat", "fstat", "lstat", "newfstatat", "fstatat64", "statx", "statfs",
		"fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd", "chdir", "fchdir",
		"mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
		"symlinkat", "truncate", "ftruncate", "fallocate", "fsync", "fdatasync", "sync_file_range", "syncfs", "flock", "fcntl",
		"chmod", "fchmod", "fchmodat", "utimensat", "umask", "fadvise64", "copy_file_range", "sendfile", "splice", "tee", "dup",
		"dup2", "dup3", "ioctl", "pipe", "pipe2", "readahead", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
		// Events and sockets.
		"poll", "ppoll", "select", "pselect6", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait",
		"epoll_pwait2", "eventfd", "eventfd2", "timerfd_create", "timerfd_settime", "timerfd_gettime", "signalfd4", "socket",
		"socketpair", "bind", "listen", "accept", "accept4", "connect", "getsockname", "getpeername", "getsockopt", "setsockopt",
		"sendto", "recvfrom", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg", "shutdown",
	}
	return slices.DeleteFunc(all, func(name string) bool {
		_, ok := info.SyscallNames[name]
		return !ok
	}), nil
}
