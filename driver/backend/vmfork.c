// SPDX-License-Identifier: GPL-2.0
/* Restores as the kernel's own driver of the VM generation id announces them. */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/notifier.h>
#include <linux/of.h>
#include <linux/printk.h>
#include <linux/random.h>

#include "../sysgenid.h"
#include "../vmgenid_acpi.h"

/* Whether this machine has a device that the kernel's driver knows. */
static bool has_device;

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

static bool find_device(void)
{
	struct device_node *node;

	if (vmgenid_find_known())
		return true;
	node = of_find_compatible_node(NULL, NULL, "microsoft,vmgenid");
	if (!node)
		return false;
	of_node_put(node);
	return true;
}

int sysgenid_backend_start(void)
{
	has_device = find_device();
	if (!has_device)
		pr_warn("this machine has no VM generation id that the kernel knows: only a trigger changes the generation\n");
	/* In any case: another module may announce one. */
	return register_random_vmfork_notifier(&vmfork_nb);
}

void sysgenid_backend_stop(void)
{
	unregister_random_vmfork_notifier(&vmfork_nb);
}

const char *sysgenid_backend_name(void)
{
	return has_device ? "vmfork" : "trigger";
}
