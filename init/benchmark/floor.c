// The least that an init can do to hand a guest over: the mounts, modules and
// steps of storeboot's init for init=, without a log, checks or messages. Static,
// without an allocation. init/benchmark/run measures against it.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char modules[1 << 16], cmdline[4096];

static void mnt(const char *src, const char *dir, const char *type, unsigned long flags, const char *data)
{
	mkdir(dir, 0755);
	if (mount(src, dir, type, flags, data))
		dprintf(1, "floor: mount %s: %m\n", dir);
}

// One record is one write, which dprintf does not promise.
static void note(int kmsg, const char *text, const char *name)
{
	char line[512];
	int n = snprintf(line, sizeof line, "<6>floor: %s%s\n", text, name);
	if (write(kmsg, line, n) < 0)
		dprintf(1, "floor: write to the log: %m\n");
}

static ssize_t slurp(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, size - 1);
	if (fd >= 0)
		close(fd);
	buf[n < 0 ? 0 : n] = 0;
	return n;
}

int main(void)
{
	const unsigned long nse = MS_NOSUID | MS_NODEV | MS_NOEXEC, sa = MS_STRICTATIME;
	mnt("proc", "/proc", "proc", nse, "");
	mnt("sysfs", "/sys", "sysfs", nse, "");
	mnt("devtmpfs", "/dev", "devtmpfs", MS_NOSUID | sa, "mode=755,size=5%");
	mnt("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=0666,gid=3");
	mnt("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV | sa, "mode=1777,size=50%");
	mnt("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV | sa, "mode=755,size=25%");
	mnt("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV | sa, "mode=1777,size=50%");
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
	int kmsg = open("/dev/kmsg", O_WRONLY);
	slurp("/proc/cmdline", cmdline, sizeof cmdline);
	char *init = strstr(cmdline, " init=") + 6;
	init[strcspn(init, " \n")] = 0;

	slurp("/floor-modules", modules, sizeof modules);
	for (char *line = strtok(modules, "\n"); line; line = strtok(0, "\n")) {
		int fd = open(line, O_RDONLY | O_CLOEXEC);
		if (syscall(SYS_finit_module, fd, "", 0))
			dprintf(1, "floor: load %s: %m\n", line);
		close(fd);
	}
	note(kmsg, "modules loaded", "");
	mkdir("/nix", 0755);
	mkdir("/nix/store", 0755);
	for (int i = 0; i < 1000 && mount("tvix", "/nix/store", "virtiofs", MS_RDONLY | MS_NODEV | MS_NOSUID, ""); i++)
		usleep(5000);
	note(kmsg, "store mounted", "");

	mnt("tmpfs", "/sysroot", "tmpfs", 0, "mode=755");
	mount("", "/", "", MS_REC | MS_PRIVATE, "");
	mkdir("/sysroot/nix", 0755);
	mkdir("/sysroot/tmp", 01777);
	mnt("ramfs", "/run/keys", "ramfs", MS_NOSUID | MS_NODEV, "mode=750");
	const char *moves[][2] = {{"/nix/store", "/sysroot/nix/store"}, {"/proc", "/sysroot/proc"}, {"/sys", "/sysroot/sys"}, {"/dev", "/sysroot/dev"}, {"/run", "/sysroot/run"}};
	for (int i = 0; i < 5; i++) {
		mkdir(moves[i][1], 0755);
		mount(moves[i][0], moves[i][1], "", MS_MOVE, "");
	}
	note(kmsg, "starting ", init);
	chdir("/sysroot");
	mount(".", "/", "", MS_MOVE, "");
	chroot(".");
	chdir("/");
	char *argv[] = {init, 0};
	execv(init, argv);
	note(kmsg, "cannot execute ", init);
	for (;;)
		pause();
}
