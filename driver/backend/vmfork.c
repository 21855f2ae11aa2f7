// SPDX-License-Identifier: GPL-2.0
/* Restores as the kernel's own driver of the VM generation id announces them. */

#include <linux/notifier.h>
#include <linux/random.h>

#include "sysgenid.h"

/*
 * The kernel calls this after it has reseeded its own random numbers, so
 * whoever is woken can draw a secret that no other clone draws. With a device
 * tree, it does so in hard interrupt context.
 */
static int vmfork(struct notifier_block *nb, unsigned long action, void *data)
{
	sysgenid_bump(0, SYSGENID_RESTORE);
	return NOTIFY_DONE;
}

static struct notifier_block vmfork_nb = {
	.notifier_call = vmfork,
};

int sysgenid_backend_start(void)
{
	return register_random_vmfork_notifier(&vmfork_nb);
}

void sysgenid_backend_stop(void)
{
	unregister_random_vmfork_notifier(&vmfork_nb);
}

const char *sysgenid_backend_name(void)
{
	return "vmfork";
}
