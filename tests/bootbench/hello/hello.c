// Prints and ends: as a guest's init it is the floor of all boots, as a program
// of the store what the others run. As init it says too how long the kernel took.
#include <stdio.h>
#include <sys/reboot.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec up;
	char text[80];
	clock_gettime(CLOCK_BOOTTIME, &up);
	int n = snprintf(text, sizeof text, "Hello, world! %ld.%03ld\n", (long)up.tv_sec, up.tv_nsec / 1000000);
	if (write(1, text, n) != n)
		return 1;
	if (getpid() != 1)
		return 0;
	tcdrain(1);
	reboot(RB_POWER_OFF);
	return 1;
}
