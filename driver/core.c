// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/sysgenid: a counter that changes when this system is restored from a
 * snapshot, or is a clone of one.
 *
 * Every open file is a watcher. It is up to date when it is opened, outdated
 * from the next change on, and up to date again when it writes the generation
 * back.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/sysfs.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
/* By its place: a kernel may ship a header of this name, of another dialect. */
#include "include/uapi/linux/sysgenid.h"
#include "pure.h"
#include "sysgenid.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static unsigned int abi = 6;
module_param(abi, uint, 0444);
MODULE_PARM_DESC(abi, "dialect of the ioctls: 6 (default), or 5 for clients of before that");

struct watcher {
	u64 acked;	/* the bump it has acknowledged */
	u32 generation;	/* what that bump, or the last before open, led to */
	bool tracked;	/* whether WAIT_WATCHERS waits for it */
};

/*
 * Guards all that follows, and every watcher. A restore is announced in hard
 * interrupt context on device-tree guests, so it is taken with interrupts off.
 */
static DEFINE_SPINLOCK(lock);

/*
 * The first word of the page that clients map. There is no second copy of the
 * counter that could disagree with what a client sees.
 */
static u32 *generation;

/*
 * The generation wraps and can be set, so it may return to a value that a
 * watcher once acknowledged. The number of bumps does not.
 */
static u64 bumps;

static unsigned int watchers;
static unsigned int tracked;	/* of the watchers */
static unsigned int outdated;	/* of those tracked */

static DECLARE_WAIT_QUEUE_HEAD(changed);	/* read and poll */
static DECLARE_WAIT_QUEUE_HEAD(settled);	/* WAIT_WATCHERS */

static bool is_v5(void)
{
	return abi == 5;
}

static bool is_outdated(const struct watcher *watcher)
{
	lockdep_assert_held(&lock);
	return watcher->acked != bumps;
}

/*
 * The only way to change a watcher: it keeps the counts in step, and ends the
 * waits for the last one that was outdated.
 */
static void update(struct watcher *watcher, u64 acked, bool track)
{
	lockdep_assert_held(&lock);
	tracked -= watcher->tracked;
	outdated -= watcher->tracked && is_outdated(watcher);

	watcher->acked = acked;
	watcher->tracked = track;
	if (!is_outdated(watcher))
		watcher->generation = *generation;

	tracked += watcher->tracked;
	outdated += watcher->tracked && is_outdated(watcher);
	if (!outdated)
		wake_up_interruptible_all(&settled);
}

/*
 * The change uevent of v5. It cannot be sent from where a bump may come, so
 * changes that follow one another quickly are announced as one, the latest.
 */
static struct kobject *node;

static void announce(struct work_struct *work)
{
	char text[sizeof("SYSGENID=4294967295")];
	char *env[] = { text, NULL };

	snprintf(text, sizeof(text), "SYSGENID=%u", READ_ONCE(*generation));
	/* Pairs with the release in sysgenid_init(): the node is complete. */
	if (smp_load_acquire(&node))
		kobject_uevent_env(node, KOBJ_CHANGE, env);
}

static DECLARE_WORK(announcement, announce);

void sysgenid_bump(u32 min, enum sysgenid_cause cause)
{
	unsigned long flags;
	u32 next;

	spin_lock_irqsave(&lock, flags);
	next = sysgenid_next(*generation, min);
	/*
	 * Whoever sees the new generation in the page also sees what was
	 * written before it changed.
	 */
	smp_store_release(generation, next);
	bumps++;
	outdated = tracked;
	trace_sysgenid_bump(next, cause, tracked);
	spin_unlock_irqrestore(&lock, flags);

	/*
	 * All, because each one waits for its own descriptor: a wakeup of one
	 * exclusive waiter is no news to the next. Those who wait for others
	 * are outdated now themselves.
	 */
	wake_up_interruptible_all(&changed);
	wake_up_interruptible_all(&settled);
	if (is_v5())
		schedule_work(&announcement);
}

static int sysgenid_open(struct inode *inode, struct file *file)
{
	struct watcher *watcher = kzalloc(sizeof(*watcher), GFP_KERNEL_ACCOUNT);

	if (!watcher)
		return -ENOMEM;

	spin_lock_irq(&lock);
	watchers++;
	/* v5 knows no other watchers than tracked ones. */
	update(watcher, bumps, is_v5());
	spin_unlock_irq(&lock);

	file->private_data = watcher;
	return 0;
}

static int sysgenid_release(struct inode *inode, struct file *file)
{
	struct watcher *watcher = file->private_data;

	spin_lock_irq(&lock);
	update(watcher, watcher->acked, false);
	watchers--;
	spin_unlock_irq(&lock);

	kfree(watcher);
	return 0;
}

/* Whether the watcher is outdated, and by which generation: one moment's truth. */
static bool peek(const struct watcher *watcher, u32 *current_generation)
{
	bool ret;

	spin_lock_irq(&lock);
	ret = is_outdated(watcher);
	*current_generation = *generation;
	spin_unlock_irq(&lock);
	return ret;
}

static ssize_t sysgenid_read(struct file *file, char __user *buf, size_t count,
			     loff_t *ppos)
{
	struct watcher *watcher = file->private_data;
	u32 value;
	int ret;

	if (!count)
		return 0;
	if (count < sizeof(value))
		return -EINVAL;

	if (!peek(watcher, &value)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		ret = wait_event_interruptible(changed, peek(watcher, &value));
		if (ret)
			return ret;
	}

	if (copy_to_user(buf, &value, sizeof(value)))
		return -EFAULT;
	return sizeof(value);
}

static ssize_t sysgenid_write(struct file *file, const char __user *buf,
			      size_t count, loff_t *ppos)
{
	struct watcher *watcher = file->private_data;
	ssize_t ret = sizeof(u32);
	u32 value;

	/* Clients tell the dialects by it. */
	if (count != sizeof(value))
		return is_v5() ? -EINVAL : -ENOBUFS;
	if (copy_from_user(&value, buf, sizeof(value)))
		return -EFAULT;

	spin_lock_irq(&lock);
	if (value == *generation) {
		update(watcher, bumps, watcher->tracked);
		trace_sysgenid_ack(value, watcher->tracked);
	} else {
		ret = -EINVAL;
	}
	spin_unlock_irq(&lock);
	return ret;
}

static __poll_t sysgenid_poll(struct file *file, poll_table *wait)
{
	u32 value;

	/*
	 * First, whatever the answer: epoll joins the queue only when a
	 * descriptor is added, and one that was outdated then would never be
	 * woken again.
	 */
	poll_wait(file, &changed, wait);
	return peek(file->private_data, &value) ? EPOLLIN | EPOLLRDNORM : 0;
}

static bool wait_is_over(const struct watcher *self, int *ret)
{
	bool over = true;

	spin_lock_irq(&lock);
	/*
	 * A caller that is outdated must not act on an answer about the
	 * others: it belongs to a generation that is gone.
	 */
	if (is_outdated(self))
		*ret = -EINTR;
	else if (!outdated)
		*ret = 0;
	else
		over = false;
	spin_unlock_irq(&lock);
	return over;
}

static long wait_watchers(const struct watcher *self, u32 ms)
{
	/* In 64 bits, which 32 bits of milliseconds cannot overflow. */
	ktime_t timeout = ms ? ms_to_ktime(ms) : KTIME_MAX;
	int ret = 0;
	int stopped;

	stopped = wait_event_interruptible_hrtimeout(settled,
						     wait_is_over(self, &ret),
						     timeout);
	/*
	 * A signal, or what looks like one here: a stop and its end, a tracer,
	 * the freezer. A restart by the kernel would begin the timeout again.
	 */
	if (stopped == -ERESTARTSYS)
		return -EINTR;
	/* On timeout, ETIME. */
	return stopped ?: ret;
}

static long set_tracking(struct file *file, bool track)
{
	struct watcher *watcher = file->private_data;

	/* One that cannot acknowledge would be waited for in vain. */
	if (track && !(file->f_mode & FMODE_WRITE))
		return -EBADF;

	spin_lock_irq(&lock);
	update(watcher, watcher->acked, track);
	spin_unlock_irq(&lock);
	return 0;
}

static long trigger(u32 min)
{
	/*
	 * Of the initial namespace: anyone can be root in a user namespace of
	 * their own, and a bump is seen by all.
	 */
	if (!checkpoint_restore_ns_capable(&init_user_ns))
		return -EACCES;
	sysgenid_bump(min, SYSGENID_TRIGGER);
	return 0;
}

static long ioctl_v6(struct file *file, unsigned int cmd, u32 arg)
{
	switch (cmd) {
	case SYSGENID_SET_WATCHER_TRACKING:
		return set_tracking(file, arg);
	case SYSGENID_WAIT_WATCHERS:
		return wait_watchers(file->private_data, arg);
	case SYSGENID_TRIGGER_GEN_UPDATE:
		return trigger(arg);
	default:
		return -ENOTTY;
	}
}

static long ioctl_v5(struct file *file, unsigned int cmd, u32 arg)
{
	switch (cmd) {
	case SYSGENID_V5_WAIT_WATCHERS:
		return wait_watchers(file->private_data, arg);
	case SYSGENID_V5_FORCE_GEN_UPDATE:
		return trigger(arg);
	default:
		return -ENOTTY;
	}
}

static long sysgenid_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	u32 number = sysgenid_argument(arg);

	return is_v5() ? ioctl_v5(file, cmd, number) :
			 ioctl_v6(file, cmd, number);
}

/*
 * Brings the page back that madvise() has dropped. The module cannot go while
 * this can be called, because a mapping holds the file and the file holds the
 * module.
 */
static vm_fault_t sysgenid_fault(struct vm_fault *vmf)
{
	if (vmf->pgoff)
		return VM_FAULT_SIGBUS;

	vmf->page = virt_to_page(generation);
	get_page(vmf->page);
	return 0;
}

static const struct vm_operations_struct sysgenid_vm_ops = {
	.fault = sysgenid_fault,
};

static int sysgenid_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != 1)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EPERM;

	/*
	 * Else mremap() and mprotect() could give what was refused here. A core
	 * dump has no use for the page.
	 */
	vm_flags_mod(vma, VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE);
	vma->vm_ops = &sysgenid_vm_ops;
	/* At once, so that the first look is a load and not a fault. */
	return vm_insert_page(vma, vma->vm_start, virt_to_page(generation));
}

/* Which descriptor holds the others up: what a wait that timed out asks for. */
static void sysgenid_show_fdinfo(struct seq_file *m, struct file *file)
{
	const struct watcher *watcher = file->private_data;
	struct watcher seen;
	bool is_late;

	spin_lock_irq(&lock);
	seen = *watcher;
	is_late = is_outdated(watcher);
	spin_unlock_irq(&lock);

	seq_printf(m, "sysgenid-acked:\t%u\n", seen.generation);
	seq_printf(m, "sysgenid-tracked:\t%d\n", seen.tracked);
	seq_printf(m, "sysgenid-outdated:\t%d\n", is_late);
}

static const struct file_operations sysgenid_fops = {
	.owner = THIS_MODULE,
	.open = sysgenid_open,
	.release = sysgenid_release,
	.read = sysgenid_read,
	.write = sysgenid_write,
	.poll = sysgenid_poll,
	.mmap = sysgenid_mmap,
	.unlocked_ioctl = sysgenid_ioctl,
	/* The arguments are numbers, not pointers: nothing to translate. */
	.compat_ioctl = sysgenid_ioctl,
	.show_fdinfo = sysgenid_show_fdinfo,
};

static ssize_t dialect_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "v%u\n", abi);
}
static DEVICE_ATTR_RO(dialect);

static ssize_t backend_show(struct device *dev, struct device_attribute *attr,
			    char *buf)
{
	return sysfs_emit(buf, "%s\n", sysgenid_backend_name());
}
static DEVICE_ATTR_RO(backend);

static ssize_t show_number(const u32 *number, char *buf)
{
	u32 seen;

	spin_lock_irq(&lock);
	seen = *number;
	spin_unlock_irq(&lock);
	return sysfs_emit(buf, "%u\n", seen);
}

static ssize_t generation_show(struct device *dev,
			       struct device_attribute *attr, char *buf)
{
	return show_number(generation, buf);
}
static DEVICE_ATTR_RO(generation);

static ssize_t watchers_show(struct device *dev, struct device_attribute *attr,
			     char *buf)
{
	return show_number(&watchers, buf);
}
static DEVICE_ATTR_RO(watchers);

static ssize_t tracked_watchers_show(struct device *dev,
				     struct device_attribute *attr, char *buf)
{
	return show_number(&tracked, buf);
}
static DEVICE_ATTR_RO(tracked_watchers);

static ssize_t outdated_watchers_show(struct device *dev,
				      struct device_attribute *attr, char *buf)
{
	return show_number(&outdated, buf);
}
static DEVICE_ATTR_RO(outdated_watchers);

static struct attribute *sysgenid_attrs[] = {
	&dev_attr_dialect.attr,
	&dev_attr_backend.attr,
	&dev_attr_generation.attr,
	&dev_attr_watchers.attr,
	&dev_attr_tracked_watchers.attr,
	&dev_attr_outdated_watchers.attr,
	NULL,
};
ATTRIBUTE_GROUPS(sysgenid);

static struct miscdevice sysgenid_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "sysgenid",
	.fops = &sysgenid_fops,
	.groups = sysgenid_groups,
	.mode = 0600,
};

static int __init sysgenid_init(void)
{
	int ret;

	if (abi != 5 && abi != 6) {
		pr_err("there is no dialect v%u here: abi is 5 or 6\n", abi);
		return -EINVAL;
	}

	generation = (u32 *)get_zeroed_page(GFP_KERNEL);
	if (!generation)
		return -ENOMEM;

	ret = sysgenid_backend_start();
	if (ret)
		goto free_page;
	ret = sysgenid_hibernation_start();
	if (ret)
		goto stop_backend;

	/* Last, because from here on the module is used. */
	ret = misc_register(&sysgenid_misc);
	if (ret)
		goto stop_hibernation;
	/* Pairs with the acquire in announce(). */
	smp_store_release(&node, &sysgenid_misc.this_device->kobj);

	pr_info("dialect v%u, backend %s\n", abi, sysgenid_backend_name());
	return 0;

stop_hibernation:
	sysgenid_hibernation_stop();
stop_backend:
	sysgenid_backend_stop();
	cancel_work_sync(&announcement);
free_page:
	free_page((unsigned long)generation);
	return ret;
}

static void __exit sysgenid_exit(void)
{
	/* Whatever changes the generation, then what that leads to. */
	sysgenid_hibernation_stop();
	sysgenid_backend_stop();
	cancel_work_sync(&announcement);
	misc_deregister(&sysgenid_misc);
	free_page((unsigned long)generation);
}

module_init(sysgenid_init);
module_exit(sysgenid_exit);

MODULE_DESCRIPTION("System generation: tells userspace that it was restored or cloned");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
