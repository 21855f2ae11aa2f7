// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * A 32-bit process that calls every ioctl of a dialect. It needs no C library,
 * because few machines have one of 32 bits.
 *
 * Exit codes: 0; 1 if an ioctl failed or did nothing; 2 for wrong arguments; 3
 * if the device cannot be opened and mapped.
 */
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "../../driver/include/uapi/linux/sysgenid.h"

_Static_assert(sizeof(long) == 4, "compiled with -m32");

static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "0"(number), "b"(a), "c"(b), "d"(c)
			 : "memory");
	return result;
}

/* The old way, whose six arguments lie in memory. */
static const volatile unsigned int *map(long fd)
{
	long arguments[] = { 0, 4, PROT_READ, MAP_SHARED, fd, 0 };
	long result = call(__NR_mmap, (long)arguments, 0, 0);

	return result < 0 && result > -4096 ? 0 : (void *)result;
}

static int run(int argc, char **argv)
{
	const volatile unsigned int *page;
	long watcher, other, failed;
	unsigned int before;

	if (argc != 3)
		return 2;
	watcher = call(__NR_open, (long)argv[1], O_RDWR, 0);
	other = call(__NR_open, (long)argv[1], O_RDWR, 0);
	page = map(watcher);
	if (watcher < 0 || other < 0 || !page)
		return 3;

	before = *page;
	if (argv[2][0] == '5') {
		failed = call(__NR_ioctl, watcher, SYSGENID_V5_WAIT_WATCHERS, 1000);
		failed |= call(__NR_ioctl, other, SYSGENID_V5_FORCE_GEN_UPDATE, 0);
	} else {
		failed = call(__NR_ioctl, watcher, SYSGENID_SET_WATCHER_TRACKING, 1);
		failed |= call(__NR_ioctl, watcher, SYSGENID_WAIT_WATCHERS, 1000);
		failed |= call(__NR_ioctl, other, SYSGENID_TRIGGER_GEN_UPDATE, 0);
	}
	return failed || *page != before + 1;
}

__attribute__((used)) static void start(long *stack)
{
	call(__NR_exit, run((int)stack[0], (char **)&stack[1]), 0, 0);
}

/* The kernel leaves the arguments on the stack. */
__asm__(".globl _start\n"
	"_start:\n"
	"	movl %esp, %eax\n"
	"	andl $-16, %esp\n"
	"	subl $12, %esp\n"
	"	pushl %eax\n"
	"	call start\n");
