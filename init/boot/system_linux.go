package boot

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"storeboot/internal/bootproto"
)

// Machine boots the machine that this process is PID 1 of, and does not return.
// In any other process it does nothing.
func Machine() {
	if os.Getpid() != 1 {
		return
	}
	settle()
	m := &machine{}
	m.watchSignals()
	Run(m)
}

// settle makes the Go runtime quiet on one slow processor. With a single P, its
// monitor takes that from every system call of more than 20 us, starts a thread
// for it, and gets no sleep: hundreds of switches in a boot under emulation. With
// one to spare it waits for 10 ms (runtime/proc.go, retake).
func settle() {
	if runtime.GOMAXPROCS(0) == 1 {
		runtime.GOMAXPROCS(2)
	}
}

// machine is the real System.
type machine struct {
	stop stopper
	// uevents is the socket for them, nil before the first wait, -1 where the
	// kernel has none.
	uevents *int
	// output is done when the output of the last program was passed on, as far as
	// that is ours to do.
	output *sync.WaitGroup
}

// retry repeats a system call that a signal interrupted: the Go runtime sends
// itself signals, and FUSE returns EINTR for them.
func retry[T any](call func() (T, error)) (T, error) {
	for {
		v, err := call()
		if err != unix.EINTR {
			return v, err
		}
	}
}

func retryErr(call func() error) error {
	_, err := retry(func() (struct{}, error) { return struct{}{}, call() })
	return err
}

func open(path string, flags int) (int, error) {
	return retry(func() (int, error) { return unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NOCTTY, 0) })
}

func (*machine) Mkdir(path string, mode uint32) error {
	err := unix.Mkdir(path, mode&0o777)
	if err == unix.EEXIST {
		return nil
	}
	if err == nil && mode&^0o755 != 0 { // what the umask takes away
		err = unix.Chmod(path, mode)
	}
	return err
}

func (*machine) CreateFile(path, text string) error {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o644)
	})
	if err == unix.EEXIST {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = rawFile(fd).Write([]byte(text))
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	return err
}

func (*machine) Remove(path string) error {
	if err := unix.Unlink(path); err != unix.ENOENT {
		return err
	}
	return nil
}

func (*machine) Symlink(target, path string) error {
	err := unix.Symlink(target, path)
	if err != unix.EEXIST {
		return err
	}
	if err := unix.Unlink(path); err != nil {
		return err
	}
	return unix.Symlink(target, path)
}

func (*machine) ReadFile(path string) ([]byte, error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if len(data) > maxFile {
		return nil, fmt.Errorf("longer than %d bytes: %w", maxFile, unix.EFBIG)
	}
	return data, err
}

func (*machine) WriteFile(path, text string) error {
	fd, err := open(path, unix.O_WRONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = retry(func() (int, error) { return unix.Write(fd, []byte(text)) })
	return err
}

func (*machine) Open(path string) (File, error) { return openFile(path) }

// rawFile is a descriptor outside of the Go runtime's poller, which has no use
// for the files that init reads.
type rawFile int

func openFile(path string) (rawFile, error) {
	fd, err := open(path, unix.O_RDONLY)
	return rawFile(fd), err
}

func (f rawFile) Close() error { return unix.Close(int(f)) }

func (f rawFile) Read(p []byte) (int, error) {
	n, err := retry(func() (int, error) { return unix.Read(int(f), p) })
	return ended(n, len(p), err)
}

func (f rawFile) ReadAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		n, err := retry(func() (int, error) { return unix.Pread(int(f), p[done:], off+int64(done)) })
		if n, err = ended(n, len(p), err); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

func (f rawFile) Write(p []byte) (int, error) {
	return retry(func() (int, error) { return unix.Write(int(f), p) })
}

// ended gives the result of read(2) the form of an io.Reader.
func ended(n, want int, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	if n == 0 && want > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (*machine) Stat(path string) (Stat, error) {
	var st unix.Stat_t
	err := retryErr(func() error { return unix.Stat(path, &st) })
	return Stat{Mode: st.Mode, Dev: st.Dev}, err
}

func (*machine) Glob(pattern string) []string {
	found, _ := filepath.Glob(pattern) // the error is a wrong pattern; ours are constant
	return found
}

func (*machine) Resolve(root, path string) (string, error) {
	dir, err := open(root, unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return "", err
	}
	defer unix.Close(dir)
	fd, err := retry(func() (int, error) {
		return unix.Openat2(dir, path, &unix.OpenHow{
			Flags:   unix.O_PATH | unix.O_CLOEXEC,
			Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
		})
	})
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	name := make([]byte, maxPath+len(root))
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), name)
	if err != nil {
		return "", err
	}
	resolved := strings.TrimPrefix(string(name[:n]), strings.TrimSuffix(root, "/"))
	if !strings.HasPrefix(resolved, "/") {
		resolved = "/" + resolved
	}
	return resolved, nil
}

func (*machine) Release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	return unix.ByteSliceToString(u.Release[:])
}

func (*machine) CPUs() int { return runtime.NumCPU() }

func (*machine) Mount(source, target, fstype string, flags uintptr, data string) error {
	return retryErr(func() error { return unix.Mount(source, target, fstype, flags, data) })
}

func (*machine) LoadModule(path, options string) error {
	fd, err := open(path, unix.O_RDONLY)
	if err == unix.ENOENT {
		return fmt.Errorf("%s: %w", path, errModuleFile)
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return retryErr(func() error { return unix.FinitModule(fd, options, 0) })
}

func (*machine) Elapsed() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

func (*machine) Now() time.Time { return time.Now() }

func (*machine) Environ() []string { return os.Environ() }

func (*machine) OpenKernelLog() (io.Writer, error) {
	fd, err := open("/dev/kmsg", unix.O_WRONLY)
	return rawFile(fd), err
}

func (*machine) OpenStore(path string) (Store, error) {
	fd, err := open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	return openStore(fd), err
}

// openStore is the descriptor of the store's root.
type openStore int

// Report is an ioctl whose number has the length in it: the kernel copies so
// many bytes into the FUSE request.
func (s openStore) Report(report []byte) error {
	if len(report) == 0 || len(report) > bootproto.MaxReport {
		return errors.New("the report is too long")
	}
	return retryErr(func() error {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), uintptr(bootproto.IoctlCommand(len(report))), uintptr(unsafe.Pointer(&report[0])))
		if errno != 0 {
			return errno
		}
		return nil
	})
}

func (*machine) LoopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == unix.EAFNOSUPPORT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

func (*machine) Restart() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
}

func (*machine) PowerOff() {
	unix.Sync()
	// Where the machine cannot be powered off the kernel halts it, and does not
	// return either; an error is a kernel that refuses, which a reset ends.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	for {
		time.Sleep(time.Hour)
	}
}
