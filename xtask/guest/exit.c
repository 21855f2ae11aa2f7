// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Ends the machine: QEMU turns what is written to this port into its exit code.
 * By the instruction itself, because not every kernel has /dev/port.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/io.h>
#include <unistd.h>

#define PORT 0x501

int main(int argc, char **argv)
{
	if (argc != 2 || ioperm(PORT, 1, 1)) {
		perror("exit");
		return 1;
	}
	outb(atoi(argv[1]), PORT);
	pause();
	return 0;
}
