// SPDX-License-Identifier: GPL-2.0
/* For kernels that cannot be told of a restore. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/printk.h>

#include "../sysgenid.h"

int sysgenid_backend_start(void)
{
	pr_warn("this kernel announces no restores: only a trigger changes the generation\n");
	return 0;
}

void sysgenid_backend_stop(void)
{
}

const char *sysgenid_backend_name(void)
{
	return "trigger";
}
