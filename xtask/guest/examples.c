// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Runs the examples of the kernel's page, which is given as kernels_page.h: a
 * watchdog thread, an event loop, a guarded value and an orchestrator adjust to
 * one change together. Then one watcher does not.
 *
 * Exit codes: 0; 1 if an example does not do what the page says; 2 if the device
 * cannot be used.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sysgenid.h>
#include <linux/types.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kernels_page.h"

static atomic_uint watchdogs_work, loops_work;

static void rebuild_in_watchdog(void)
{
	atomic_fetch_add(&watchdogs_work, 1);
}

static void rebuild_in_loop(void)
{
	atomic_fetch_add(&loops_work, 1);
}

static void *watchdog(void *fd)
{
	watch(*(int *)fd, rebuild_in_watchdog);
	return NULL;
}

static void *event_loop(void *unused)
{
	run_loop(rebuild_in_loop);
	return unused;
}

static int next_state(void *state)
{
	++*(unsigned int *)state;
	return 0;
}

static void copy_state(void *state, void *value)
{
	memcpy(value, state, sizeof(unsigned int));
}

static int open_watcher(int tracked)
{
	int fd = open("/dev/sysgenid", O_RDWR | O_CLOEXEC);

	return fd < 0 || ioctl(fd, SYSGENID_SET_WATCHER_TRACKING, tracked) < 0 ? -1 : fd;
}

/* The loop opens its watcher itself. */
static int wait_for_tracked(unsigned int wanted)
{
	unsigned int tries, found;
	FILE *file;

	for (tries = 0; tries < 200; tries++) {
		file = fopen("/sys/class/misc/sysgenid/tracked_watchers", "r");
		if (!file)
			return -1;
		if (fscanf(file, "%u", &found) != 1)
			found = 0;
		fclose(file);
		if (found == wanted)
			return 0;
		usleep(50000);
	}
	return -1;
}

/* Changes the generation, and acknowledges for the orchestrator. */
static int change(int fd)
{
	__u32 generation;

	return ioctl(fd, SYSGENID_TRIGGER_GEN_UPDATE, 0) < 0 ||
	       read(fd, &generation, sizeof(generation)) < 0 ||
	       write(fd, &generation, sizeof(generation)) < 0;
}

static int adjusted_within(int fd, unsigned int milliseconds)
{
	struct timespec deadline;

	clock_gettime(CLOCK_MONOTONIC, &deadline);
	deadline.tv_sec += milliseconds / 1000;
	deadline.tv_nsec += milliseconds % 1000 * 1000000L;
	return all_adjusted(fd, &deadline);
}

static int failed;

static void expect(const char *what, long found, long wanted)
{
	if (found == wanted)
		return;
	printf("# %s: %ld, and not %ld\n", what, found, wanted);
	failed = 1;
}

int main(void)
{
	int watched = open_watcher(1), orchestrator = open_watcher(0), straggler;
	unsigned int state = 0, value = 0;
	struct guarded guarded = { .fd = open_watcher(0), .state = &state };
	pthread_t threads[2];

	if (watched < 0 || orchestrator < 0 || guarded.fd < 0)
		return 2;
	guarded.page = map_generation(guarded.fd);
	if (!guarded.page || rebuild_for(&guarded, *guarded.page, next_state) ||
	    pthread_create(&threads[0], NULL, watchdog, &watched) ||
	    pthread_create(&threads[1], NULL, event_loop, NULL) ||
	    wait_for_tracked(2))
		return 2;

	expect("a draw", draw(&guarded, &value, copy_state, next_state), 0);
	expect("the value before the change", value, 1);
	if (change(orchestrator))
		return 2;
	expect("the wait for the others", adjusted_within(orchestrator, 20000), 0);
	expect("the watchdog's rebuilds", atomic_load(&watchdogs_work), 1);
	expect("the loop's rebuilds", atomic_load(&loops_work), 1);
	expect("a draw after the change", draw(&guarded, &value, copy_state, next_state), 0);
	expect("the value after the change", value, 2);

	straggler = open_watcher(1);
	if (straggler < 0 || change(orchestrator))
		return 2;
	expect("the wait for a straggler", adjusted_within(orchestrator, 300), -ETIME);
	if (ioctl(straggler, SYSGENID_TRIGGER_GEN_UPDATE, 0) < 0)
		return 2;
	expect("the wait of an outdated caller", adjusted_within(orchestrator, 300), -ESTALE);
	return failed;
}
