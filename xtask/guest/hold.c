// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Keeps a mapping of a device, and nothing else of it, until standard input
 * ends. Says "mapped" once it does.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	char byte;
	int fd;

	if (argc != 2)
		return 2;
	fd = open(argv[1], O_RDONLY | O_CLOEXEC);
	if (fd < 0 || mmap(NULL, 4, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) {
		perror(argv[1]);
		return 1;
	}
	close(fd);
	puts("mapped");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
