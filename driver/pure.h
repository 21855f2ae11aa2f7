/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The parts of the drivers that only compute. tests/pure.c has a table of cases
 * for each, which any compiler builds and any machine runs.
 */
#ifndef SYSGENID_PURE_H
#define SYSGENID_PURE_H

#ifdef __KERNEL__
#include <linux/types.h>
#endif

/*
 * The generation after a change: the next one, or min if that is larger. It
 * never is the one that is there: at the top of the range, asking for just that
 * would be a change that no page shows.
 */
static inline u32 sysgenid_next(u32 generation, u32 min)
{
	u32 next = generation + 1;

	return min != generation && min > next ? min : next;
}

/*
 * The number that an ioctl was given. Clients pass a C int, so the upper half of
 * a register of 64 bits holds whatever was there before.
 */
static inline u32 sysgenid_argument(unsigned long arg)
{
	return (u32)arg;
}

/* The address that ACPI gives as two halves; 0 if these are none. */
static inline u64 vmgenid_join(u64 low, u64 high)
{
	const u64 most = 0xffffffff;

	return low <= most && high <= most ? high << 32 | low : 0;
}

/* Whether any of the length bytes at start lies in the page. */
static inline bool vmgenid_in_page(u64 start, u64 length, u64 page, u64 page_size)
{
	return start < page ? page - start < length : start - page < page_size;
}

#endif /* SYSGENID_PURE_H */
