// SPDX-License-Identifier: GPL-2.0
/*
 * Cases for pure.h, as KUnit would have them, for a machine that is not booted:
 *
 *	cc -Wall -Wextra -Werror -o pure tests/pure.c && ./pure
 *
 * Prints TAP. The exit code is 0 only if every case passed.
 */
#include <linux/types.h>
#include <stdbool.h>
#include <stdio.h>

typedef __u32 u32;
typedef __u64 u64;

#include "../pure.h"

#define ARRAY_SIZE(array) (sizeof(array) / sizeof(*(array)))

static unsigned int number;
static unsigned int failed;

static void report(const char *name, u64 found, u64 wanted)
{
	bool is_right = found == wanted;

	printf("%sok %u - %s\n", is_right ? "" : "not ", ++number, name);
	if (is_right)
		return;
	printf("# %#llx, and not %#llx\n", (unsigned long long)found,
	       (unsigned long long)wanted);
	failed++;
}

static const struct {
	const char *name;
	u32 generation;
	u32 min;
	u32 next;
} changes[] = {
	{ "without a minimum it is the next", 7, 0, 8 },
	{ "a smaller minimum is ignored", 7, 6, 8 },
	{ "the current one as a minimum is ignored", 7, 7, 8 },
	{ "the next one as a minimum is the next", 7, 8, 8 },
	{ "a larger minimum is taken", 7, 9, 9 },
	{ "the first change", 0, 0, 1 },
	{ "a minimum beyond the signed range", 7, 0x80000000, 0x80000000 },
	{ "a generation beyond the signed range", 0xc0000000, 5, 0xc0000001 },
	{ "across the end of the signed range", 0x7fffffff, 0, 0x80000000 },
	{ "to the last one", 7, 0xffffffff, 0xffffffff },
	{ "after the last one comes 0", 0xffffffff, 0, 0 },
	{ "after the last one a minimum decides", 0xffffffff, 7, 7 },
	{ "the last one is not followed by itself", 0xffffffff, 0xffffffff, 0 },
};

static const struct {
	const char *name;
	u64 argument;
	u32 number;
} arguments[] = {
	{ "0 is 0", 0, 0 },
	{ "the upper half does not make 0 a number", 0xdeadbeef00000000, 0 },
	{ "nor another number of one", 0xdeadbeef00000001, 1 },
	{ "-1 is the largest", 0xffffffffffffffff, 0xffffffff },
};

static const struct {
	const char *name;
	u64 low, high, address;
} halves[] = {
	{ "an address below 4 GiB", 0x0c000000, 0, 0x0c000000 },
	{ "an address above 4 GiB", 0x0c000000, 0x12, 0x120c000000 },
	{ "no address", 0, 0, 0 },
	{ "a low half that is too wide", 0x100000000, 0, 0 },
	{ "a high half that is too wide", 1, 0x100000000, 0 },
};

static const struct {
	const char *name;
	u64 start, length, page, page_size;
	bool is_inside;
} places[] = {
	{ "at the start of the page", 0x1000, 16, 0x1000, 0x1000, true },
	{ "within the page", 0x1040, 16, 0x1000, 0x1000, true },
	{ "its first byte is the last of the page", 0x1fff, 16, 0x1000, 0x1000, true },
	{ "its last byte is the first of the page", 0xff1, 16, 0x1000, 0x1000, true },
	{ "just before the page", 0xff0, 16, 0x1000, 0x1000, false },
	{ "just behind the page", 0x2000, 16, 0x1000, 0x1000, false },
	{ "far before the page", 0x10, 16, 0x100000000000, 0x1000, false },
	{ "far behind the page", 0x100000000000, 16, 0x1000, 0x1000, false },
	{ "in a larger page", 0x13000, 16, 0x10000, 0x10000, true },
	{ "the page is the last that there is", 0x1000, 16, 0xfffffffffffff000, 0x1000, false },
	{ "in the last page that there is", 0xfffffffffffffff0, 16, 0xfffffffffffff000, 0x1000,
	  true },
};

int main(void)
{
	size_t i;

	printf("TAP version 14\n1..%zu\n", ARRAY_SIZE(changes) + ARRAY_SIZE(arguments) +
	       ARRAY_SIZE(halves) + ARRAY_SIZE(places));
	for (i = 0; i < ARRAY_SIZE(changes); i++)
		report(changes[i].name,
		       sysgenid_next(changes[i].generation, changes[i].min),
		       changes[i].next);
	for (i = 0; i < ARRAY_SIZE(arguments); i++)
		report(arguments[i].name,
		       sysgenid_argument(arguments[i].argument),
		       arguments[i].number);
	for (i = 0; i < ARRAY_SIZE(halves); i++)
		report(halves[i].name,
		       vmgenid_join(halves[i].low, halves[i].high),
		       halves[i].address);
	for (i = 0; i < ARRAY_SIZE(places); i++)
		report(places[i].name,
		       vmgenid_in_page(places[i].start, places[i].length,
				       places[i].page, places[i].page_size),
		       places[i].is_inside);
	return failed != 0;
}
