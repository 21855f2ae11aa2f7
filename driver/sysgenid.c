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
#include <linux/minmax.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/sysgenid.h>

struct watcher {
	u64 acked;	/* the bump it has acknowledged */
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

static unsigned int tracked;
static unsigned int outdated;	/* of those tracked */

static DECLARE_WAIT_QUEUE_HEAD(changed);	/* read and poll */
static DECLARE_WAIT_QUEUE_HEAD(settled);	/* WAIT_WATCHERS */

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

	tracked += watcher->tracked;
	outdated += watcher->tracked && is_outdated(watcher);
	if (!outdated)
		wake_up_interruptible_all(&settled);
}

/* May be called in any context. */
static void bump(u32 min)
{
	unsigned long flags;
	u32 next;

	spin_lock_irqsave(&lock, flags);
	/*
	 * The larger of the two, but never the one that is there: at the top
	 * of the range, asking for just that would be a change nobody sees.
	 */
	next = *generation + 1;
	if (min != *generation)
		next = max(min, next);
	/*
	 * Whoever sees the new generation in the page also sees what was
	 * written before it changed.
	 */
	smp_store_release(generation, next);
	bumps++;
	outdated = tracked;
	spin_unlock_irqrestore(&lock, flags);

	/*
	 * All, because each one waits for its own descriptor: a wakeup of one
	 * exclusive waiter is no news to the next. Those who wait for others
	 * are outdated now themselves.
	 */
	wake_up_interruptible_all(&changed);
	wake_up_interruptible_all(&settled);
}

static int sysgenid_open(struct inode *inode, struct file *file)
{
	struct watcher *watcher = kzalloc(sizeof(*watcher), GFP_KERNEL);

	if (!watcher)
		return -ENOMEM;

	spin_lock_irq(&lock);
	watcher->acked = bumps;
	spin_unlock_irq(&lock);

	file->private_data = watcher;
	return nonseekable_open(inode, file);
}

static int sysgenid_release(struct inode *inode, struct file *file)
{
	struct watcher *watcher = file->private_data;

	spin_lock_irq(&lock);
	update(watcher, watcher->acked, false);
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

	/* Not EINVAL: clients tell this dialect from the older ones by it. */
	if (count != sizeof(value))
		return -ENOBUFS;
	if (copy_from_user(&value, buf, sizeof(value)))
		return -EFAULT;

	spin_lock_irq(&lock);
	if (value == *generation)
		update(watcher, bumps, watcher->tracked);
	else
		ret = -EINVAL;
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

static long wait_watchers(const struct watcher *self, unsigned long ms)
{
	/* Seconds too many for a ktime_t become KTIME_MAX, which is for ever. */
	ktime_t timeout = ktime_set(ms / MSEC_PER_SEC,
				    ms % MSEC_PER_SEC * NSEC_PER_MSEC);
	int ret = 0;
	int stopped;

	stopped = wait_event_interruptible_hrtimeout(settled,
						     wait_is_over(self, &ret),
						     ms ? timeout : KTIME_MAX);
	/* A restart by the kernel would begin the timeout anew. */
	if (stopped == -ERESTARTSYS)
		return -EINTR;
	/* On timeout, ETIME. */
	return stopped ?: ret;
}

static long sysgenid_ioctl(struct file *file, unsigned int cmd,
			   unsigned long arg)
{
	struct watcher *watcher = file->private_data;

	switch (cmd) {
	case SYSGENID_SET_WATCHER_TRACKING:
		spin_lock_irq(&lock);
		update(watcher, watcher->acked, arg);
		spin_unlock_irq(&lock);
		return 0;
	case SYSGENID_WAIT_WATCHERS:
		return wait_watchers(watcher, arg);
	case SYSGENID_TRIGGER_GEN_UPDATE:
		/*
		 * Of the initial namespace: anyone can be root in a user
		 * namespace of their own, and a bump is seen by all.
		 */
		if (!checkpoint_restore_ns_capable(&init_user_ns))
			return -EACCES;
		/* 32 bits are the argument; C leaves the others undefined. */
		bump((u32)arg);
		return 0;
	default:
		return -ENOTTY;
	}
}

/*
 * The module cannot go while this can be called, because a mapping holds the
 * file and the file holds the module.
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

	/* Else mprotect() could give the write access that was refused. */
#ifdef HAVE_VM_FLAGS_CLEAR
	vm_flags_clear(vma, VM_MAYWRITE);
#else
	vma->vm_flags &= ~VM_MAYWRITE;
#endif
	vma->vm_ops = &sysgenid_vm_ops;
	return 0;
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
};

static struct miscdevice sysgenid_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "sysgenid",
	.fops = &sysgenid_fops,
	.mode = 0600,
};

static int sysgenid_vmfork(struct notifier_block *nb, unsigned long action,
			   void *data)
{
	bump(0);
	return NOTIFY_DONE;
}

static struct notifier_block sysgenid_vmfork_nb = {
	.notifier_call = sysgenid_vmfork,
};

static int __init sysgenid_init(void)
{
	int ret;

	generation = (u32 *)get_zeroed_page(GFP_KERNEL);
	if (!generation)
		return -ENOMEM;

	/*
	 * The kernel calls this after it has reseeded its own random numbers,
	 * so whoever is woken can draw a secret that no other clone draws.
	 */
	ret = register_random_vmfork_notifier(&sysgenid_vmfork_nb);
	if (ret)
		goto free_page;

	ret = misc_register(&sysgenid_misc);
	if (ret)
		goto unregister;

	/* Without VMGENID the call above succeeds and does nothing. */
	if (!IS_ENABLED(CONFIG_VMGENID))
		pr_warn("this kernel announces no restores: only a trigger changes the generation\n");
	return 0;

unregister:
	unregister_random_vmfork_notifier(&sysgenid_vmfork_nb);
free_page:
	free_page((unsigned long)generation);
	return ret;
}

static void __exit sysgenid_exit(void)
{
	misc_deregister(&sysgenid_misc);
	unregister_random_vmfork_notifier(&sysgenid_vmfork_nb);
	free_page((unsigned long)generation);
}

module_init(sysgenid_init);
module_exit(sysgenid_exit);

MODULE_DESCRIPTION("System generation: tells userspace that it was restored or cloned");
MODULE_LICENSE("GPL");
