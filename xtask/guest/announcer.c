// SPDX-License-Identifier: GPL-2.0
/*
 * Announces restores in hard interrupt context, as the kernel does on machines
 * with a device tree, at a rate at which they meet whatever the driver is doing.
 *
 * Not through the kernel's own list of listeners: that one is guarded by a lock
 * that may sleep, so the kernel's detectors would report it and not us.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/hrtimer.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/notifier.h>

/* What the driver calls instead of the functions of these names without announcer_. */
int announcer_register_random_vmfork_notifier(struct notifier_block *nb);
int announcer_unregister_random_vmfork_notifier(struct notifier_block *nb);

static ATOMIC_NOTIFIER_HEAD(listeners);

int announcer_register_random_vmfork_notifier(struct notifier_block *nb)
{
	return atomic_notifier_chain_register(&listeners, nb);
}
EXPORT_SYMBOL_GPL(announcer_register_random_vmfork_notifier);

int announcer_unregister_random_vmfork_notifier(struct notifier_block *nb)
{
	return atomic_notifier_chain_unregister(&listeners, nb);
}
EXPORT_SYMBOL_GPL(announcer_unregister_random_vmfork_notifier);

/* How many there were. */
static unsigned int announced;
module_param(announced, uint, 0444);

static unsigned int period_us;
static struct hrtimer timer;

static ktime_t period(void)
{
	return ns_to_ktime((u64)period_us * NSEC_PER_USEC);
}

static enum hrtimer_restart announce(struct hrtimer *unused)
{
	/* Else this would prove nothing. */
	WARN_ON_ONCE(!in_hardirq());
	announced++;
	atomic_notifier_call_chain(&listeners, 0, NULL);
	hrtimer_forward_now(&timer, period());
	return HRTIMER_RESTART;
}

/* Of 0 none; when this returns, the last has been made. */
static int set_period(const char *text, const struct kernel_param *param)
{
	int ret;

	hrtimer_cancel(&timer);
	ret = param_set_uint(text, param);
	if (!ret && period_us)
		hrtimer_start(&timer, period(), HRTIMER_MODE_REL_HARD);
	return ret;
}

static const struct kernel_param_ops period_ops = {
	.set = set_period,
	.get = param_get_uint,
};
module_param_cb(period_us, &period_ops, &period_us, 0644);

static int __init announcer_init(void)
{
	hrtimer_init(&timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL_HARD);
	timer.function = announce;
	return 0;
}

static void __exit announcer_exit(void)
{
	hrtimer_cancel(&timer);
}

module_init(announcer_init);
module_exit(announcer_exit);

MODULE_DESCRIPTION("Announces restores in hard interrupt context, to test who listens");
MODULE_LICENSE("GPL");
