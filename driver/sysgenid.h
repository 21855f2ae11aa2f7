/* SPDX-License-Identifier: GPL-2.0 */
/* What the parts of the driver ask of one another. */
#ifndef SYSGENID_H
#define SYSGENID_H

#include <linux/types.h>

/* Why the generation changes. */
enum sysgenid_cause {
	SYSGENID_TRIGGER,	/* somebody asked for it */
	SYSGENID_RESTORE,	/* the hypervisor announced it */
	SYSGENID_RESUME,	/* a hibernation image was read */
};

/*
 * Changes the generation to the next one, or to min if that is larger, and
 * outdates every watcher. May be called in any context.
 */
void sysgenid_bump(u32 min, enum sysgenid_cause cause);

/*
 * Who announces a restore. Each file of backend/ is one way, and Kbuild takes
 * the best that the kernel has.
 */
int sysgenid_backend_start(void);
void sysgenid_backend_stop(void);

/* "vmfork", "acpi", or "trigger": nobody does. */
const char *sysgenid_backend_name(void);

/* Resuming from hibernation as a restore, if the administrator wants that. */
int sysgenid_hibernation_start(void);
void sysgenid_hibernation_stop(void);

#endif /* SYSGENID_H */
