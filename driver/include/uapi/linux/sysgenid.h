/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The system generation: a counter that changes when this system is restored
 * from a snapshot, or is a clone of one.
 *
 * read()  on an outdated descriptor gives the current generation (a __u32).
 * write() of the current generation acknowledges it.
 * poll()  says POLLIN while the descriptor is outdated.
 * mmap()  of one read-only page shows the generation at offset 0.
 *
 * pread() and pwrite() are the same as read() and write().
 *
 * Every ioctl takes its argument by value: an int, of which 32 bits count.
 */
#ifndef _UAPI_LINUX_SYSGENID_H
#define _UAPI_LINUX_SYSGENID_H

#include <linux/ioctl.h>

/* The dialect that is deployed, called v6 after the posting it began with. */
#define SYSGENID_IOCTL			0xE4

/*
 * Nonzero: WAIT_WATCHERS waits for this descriptor too. Zero: it does not. A
 * descriptor that was opened for reading only cannot be waited for.
 */
#define SYSGENID_SET_WATCHER_TRACKING	_IO(SYSGENID_IOCTL, 1)
/*
 * Wait until no tracked descriptor is outdated. Milliseconds; 0 is without a
 * limit. EINTR: this descriptor is outdated, or the sleep was interrupted, which
 * takes no signal that is caught. poll() distinguishes them.
 */
#define SYSGENID_WAIT_WATCHERS		_IO(SYSGENID_IOCTL, 2)
/* Set the generation to max(argument, generation + 1). */
#define SYSGENID_TRIGGER_GEN_UPDATE	_IO(SYSGENID_IOCTL, 3)

/*
 * Older dialects. Their numbers mean other things, so the names differ: nr 2
 * waits in v6 and bumps in v5. Know the dialect before the first ioctl.
 */
#define SYSGENID_V5_WAIT_WATCHERS	_IO(SYSGENID_IOCTL, 1)
#define SYSGENID_V5_FORCE_GEN_UPDATE	_IO(SYSGENID_IOCTL, 2)

/* Answers with a count in v4, and fails in every later dialect. */
#define SYSGENID_V4_IOCTL		0x2d
#define SYSGENID_V4_GET_OUTDATED_WATCHERS _IO(SYSGENID_V4_IOCTL, 1)

#endif /* _UAPI_LINUX_SYSGENID_H */
