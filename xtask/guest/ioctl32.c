// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Calls every ioctl as a 32-bit process does: through the kernel's 32-bit entry,
 * which a 64-bit process can use too. No 32-bit C library is needed for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "../../driver/include/uapi/linux/sysgenid.h"

#define IOCTL32 54

static int ioctl32(int fd, unsigned int command, unsigned int argument)
{
	int result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(IOCTL32), "b"(fd), "c"(command), "d"(argument)
			 : "memory");
	return result;
}

int main(int argc, char **argv)
{
	const volatile unsigned int *page;
	unsigned int before;
	int fd, watcher, result[3];

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDWR | O_CLOEXEC);
	watcher = open(argv[1], O_RDWR | O_CLOEXEC);
	page = mmap(NULL, 4, PROT_READ, MAP_SHARED, fd, 0);
	if (fd < 0 || watcher < 0 || page == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	before = *page;
	result[0] = ioctl32(fd, SYSGENID_SET_WATCHER_TRACKING, 1);
	result[1] = ioctl32(fd, SYSGENID_WAIT_WATCHERS, 1000);
	result[2] = ioctl32(watcher, SYSGENID_TRIGGER_GEN_UPDATE, 0);
	printf("# track %d, wait %d, trigger %d, generation %u to %u\n",
	       result[0], result[1], result[2], before, *page);
	return result[0] || result[1] || result[2] || *page != before + 1;
}
