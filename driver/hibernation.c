// SPDX-License-Identifier: GPL-2.0
/*
 * A hibernation image is a snapshot, too: whoever copies the disk that it lies
 * on clones the system. Most are read once, on the machine that wrote them, so
 * this is for those who ask for it.
 */
#include <linux/err.h>
#include <linux/moduleparam.h>
#include <linux/platform_device.h>
#include <linux/pm.h>

#include "sysgenid.h"

static bool hibernation;
module_param(hibernation, bool, 0444);
MODULE_PARM_DESC(hibernation, "resuming from a hibernation image changes the generation (default: N)");

/*
 * Runs in a system that was read from an image, before its processes go on, and
 * after no other kind of sleep.
 */
static int restored(struct device *dev)
{
	sysgenid_bump(0, SYSGENID_RESUME);
	return 0;
}

static const struct dev_pm_ops pm_ops = {
	.restore = restored,
};

static struct platform_driver driver = {
	.driver = {
		.name = "sysgenid",
		.pm = &pm_ops,
		.suppress_bind_attrs = true,
	},
};

/* Nothing but something that is resumed. */
static struct platform_device *device;

int sysgenid_hibernation_start(void)
{
	int ret;

	if (!hibernation)
		return 0;
	ret = platform_driver_register(&driver);
	if (ret)
		return ret;
	device = platform_device_register_simple("sysgenid",
						 PLATFORM_DEVID_NONE, NULL, 0);
	ret = PTR_ERR_OR_ZERO(device);
	if (ret)
		platform_driver_unregister(&driver);
	return ret;
}

void sysgenid_hibernation_stop(void)
{
	if (!hibernation)
		return;
	platform_device_unregister(device);
	platform_driver_unregister(&driver);
}
