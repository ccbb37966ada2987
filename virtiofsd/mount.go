package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"storeboot/internal/cli"
	"storeboot/virtiofsd/storeaddr"
	"storeboot/virtiofsd/storefs"
)

type mountOptions struct {
	addresses  storeaddr.Addresses
	allowOther bool
	logLevel   string
	logJSON    bool
	metrics    string
	fs         fsFlags
	view       *storefs.View // instead of what fs says, unless nil
}

func newMountCommand() *cobra.Command {
	o := &mountOptions{}
	c := &cobra.Command{
		Use:   "mount DIR",
		Short: "Mount the store on this machine",
		Long: `mount mounts the store at the directory DIR over /dev/fuse, read-only, as guests
see it: DIR lists the store paths. It serves the mount until it is unmounted or
until SIGTERM or SIGINT, by which it unmounts it; files that are open then stay
readable no longer.

Root mounts by itself, others need fusermount3. A mount whose process was killed
answers "transport endpoint is not connected"; 'umount -l DIR' (or 'fusermount3
-uz DIR') removes it.`,
		Example: `  virtiofsd mount /mnt &
  ls /mnt/HASH-hello/bin
  kill %1`,
		Args: cli.ExactArgs("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.run(c.Context(), args[0], c.ErrOrStderr())
		},
	}
	f := c.Flags()
	o.addresses.AddReadFlags(f, true)
	o.fs.add(f)
	f.StringVar(&o.metrics, "metrics", "", metricsHelp)
	f.BoolVar(&o.allowOther, "allow-other", false, "let other users see it (for others than root: user_allow_other in /etc/fuse.conf)")
	f.StringVar(&o.logLevel, "log-level", "warn", "least `LEVEL` that is logged to standard error: debug, info, warn or error")
	return c
}

func (o *mountOptions) run(ctx context.Context, dir string, stderr io.Writer) error {
	log, err := newLogger(stderr, o.logLevel, o.logJSON)
	if err != nil {
		return err
	}
	if err := checkMountPoint(dir); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	o.addresses.Log = log
	store, err := storeaddr.Open(ctx, o.addresses)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	fs, err := o.fs.open(ctx, store, log, o.view)
	if err != nil {
		return errors.Join(fmt.Errorf("mount: %w", err), store.Close())
	}
	endMetrics, err := serveMetrics(o.metrics, func() []served { return []served{{dir, fs}} }, log)
	if err == nil {
		err = o.mount(ctx, fs, dir, log)
		endMetrics()
	}
	fs.Close()
	if err = errors.Join(err, store.Close()); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}

// checkMountPoint refuses what cannot be a mount point, with the way out.
func checkMountPoint(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, syscall.ENOTCONN):
		return fmt.Errorf("%s is a mount whose process has died: remove it with 'umount -l %s'", dir, dir)
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", dir)
	}
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("%w: the kernel needs FUSE ('modprobe fuse') and this user access to the device", err)
	}
	return f.Close()
}

// mount serves fs at dir until it is unmounted or ctx is done.
func (o *mountOptions) mount(ctx context.Context, fs *storefs.FS, dir string, log *slog.Logger) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx)) // until the mount has gone
	defer cancel()
	server, err := fuse.NewServer(fs.RawFileSystem(serving), dir, &fuse.MountOptions{
		AllowOther:           o.allowOther,
		Options:              []string{"ro", "nosuid", "nodev"},
		FsName:               "storeboot",
		Name:                 "storeboot",
		MaxWrite:             1 << 20, // the largest READ too
		MaxReadAhead:         1 << 20,
		DirectMount:          os.Geteuid() == 0,
		DirectMountFlags:     unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
		EnableSymlinkCaching: true,
		Logger:               slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	})
	if err != nil && (strings.HasSuffix(err.Error(), fuse.Status(syscall.ENODEV).String()) || strings.HasSuffix(err.Error(), "init: "+fuse.ENOENT.String())) {
		log.Info("unmounted before the kernel had asked anything", "directory", dir)
		return nil
	}
	if err != nil {
		if os.Geteuid() != 0 {
			return fmt.Errorf("%s: %w: root can mount it; others need fusermount3 (apt-get install fuse3)", dir, err)
		}
		return fmt.Errorf("%s: %w", dir, err)
	}
	log.Info("mounted", "directory", dir)
	ended := make(chan struct{})
	go func() {
		server.Serve() // until the mount has gone
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	if err := unmount(dir); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	select {
	case <-ended:
	case <-time.After(unmountWait): // the end of the process ends it
	}
	return nil
}

// unmountWait is how long the requests that are under way may take after the
// mount has been removed.
const unmountWait = 5 * time.Second

// unmount removes the mount, from under its users if need be.
func unmount(dir string) error {
	if os.Geteuid() != 0 {
		// -z takes the directory away though files are open in it.
		if out, err := exec.Command("fusermount3", "-u", "-z", dir).CombinedOutput(); err != nil {
			return fmt.Errorf("fusermount3: %w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := unix.Unmount(dir, 0); err == nil || errors.Is(err, unix.EINVAL) { // gone already
		return nil
	}
	// MNT_FORCE ends the connection, with the requests that wait for an answer;
	// MNT_DETACH takes the directory away though files are open in it.
	if err := unix.Unmount(dir, unix.MNT_FORCE|unix.MNT_DETACH); err == nil {
		return nil
	}
	return unix.Unmount(dir, unix.MNT_DETACH)
}
