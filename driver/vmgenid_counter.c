// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/vmgenid: the generation counter that the hypervisor keeps beside the
 * VM generation id.
 *
 * The hypervisor stores a new counter before it lets the virtual CPUs of a
 * restored machine run, so what is read here is right from their first
 * instruction on. Nobody is told of a change, and nobody can acknowledge one:
 * that is what /dev/sysgenid is for.
 *
 * The counter is found by way of the ACPI device that the kernel's own vmgenid
 * driver is bound to. That driver stays in charge of it: this one looks up an
 * address, and takes no part in what happens to the id.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sizes.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "vmgenid_acpi.h"

static phys_addr_t address;

/* Written by the hypervisor at any time, and never by this machine. */
static const u32 *counter;

static ssize_t vmgenid_read(struct file *file, char __user *buf, size_t count,
			    loff_t *ppos)
{
	u32 value = READ_ONCE(*counter);

	if (!count)
		return 0;
	if (count != sizeof(value))
		return -EINVAL;
	if (copy_to_user(buf, &value, sizeof(value)))
		return -EFAULT;
	return sizeof(value);
}

/*
 * The module cannot go while there is a mapping, because a mapping holds the
 * file and the file holds the module.
 */
static int vmgenid_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != 1)
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EPERM;

	/* Else mprotect() could give the write access that was refused. */
	vm_flags_mod(vma, 0, VM_MAYWRITE);

	/*
	 * By its number, because memory that the kernel leaves to the
	 * hypervisor need not have a struct page; and at once, so that the
	 * first look is a load and not a fault. Such a mapping cannot grow, is
	 * left out of core dumps, and nothing can pin its page.
	 *
	 * The protection remains that of ordinary memory: the host stores
	 * through its caches, and loads past the guest's own might miss that.
	 * Where the guest's memory is encrypted, this page is not.
	 */
	return io_remap_pfn_range(vma, vma->vm_start, PHYS_PFN(address),
				  PAGE_SIZE, vma->vm_page_prot);
}

static const struct file_operations vmgenid_fops = {
	.owner = THIS_MODULE,
	/* The position means nothing, so any will do. */
	.llseek = noop_llseek,
	.read = vmgenid_read,
	.mmap = vmgenid_mmap,
};

static struct miscdevice vmgenid_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "vmgenid",
	.fops = &vmgenid_fops,
	.mode = 0600,
};

/* Whether programs may see the page that begins at the counter. */
static int check_page(acpi_handle device)
{
	phys_addr_t id;

	/*
	 * A larger page shows what lies behind the 4 KiB that a hypervisor has
	 * set apart for the counter.
	 */
	if (PAGE_SIZE > SZ_4K) {
		pr_err("this kernel's pages of %lu bytes show more than the counter\n",
		       PAGE_SIZE);
		return -EINVAL;
	}
	/* Programs map a page and look at its first word. */
	if (!PAGE_ALIGNED(address)) {
		pr_err("the counter at %pa is not at the start of its page, where programs look for it\n",
		       &address);
		return -EINVAL;
	}
	/*
	 * All who may open the node can read the page, and the id is for the
	 * kernel alone: it goes into the random numbers of this machine.
	 */
	if (vmgenid_address(device, "ADDR", &id)) {
		pr_err("where the VM generation id lies is not known, and so not that the counter's page has nothing of it\n");
		return -EINVAL;
	}
	if (vmgenid_in_page(id, VMGENID_LEN, address, PAGE_SIZE)) {
		pr_err("the page of the counter at %pa holds the VM generation id, too\n",
		       &address);
		return -EINVAL;
	}
	/* Else whatever the kernel keeps there would be shown to programs. */
	if (region_intersects(address, PAGE_SIZE, IORESOURCE_SYSTEM_RAM,
			      IORES_DESC_NONE) != REGION_DISJOINT) {
		pr_err("the counter at %pa lies in memory that was not reserved for it\n",
		       &address);
		return -EINVAL;
	}
	return 0;
}

static int __init vmgenid_init(void)
{
	acpi_handle device = vmgenid_find();
	int ret;

	if (!device) {
		pr_info("this machine has no VM generation id\n");
		return -ENODEV;
	}
	ret = vmgenid_address(device, "CTRA", &address);
	if (ret == -ENODEV)
		pr_info("the hypervisor keeps no counter beside its VM generation id\n");
	else if (ret == -EINVAL)
		pr_err("the hypervisor does not say in a known form where its counter is\n");
	if (ret)
		return ret;
	ret = check_page(device);
	if (ret)
		return ret;

	counter = memremap(address, PAGE_SIZE, MEMREMAP_WB | MEMREMAP_DEC);
	if (!counter)
		return -ENOMEM;

	ret = misc_register(&vmgenid_misc);
	if (ret) {
		memunmap((void *)counter);
		return ret;
	}
	pr_info("the counter is at %pa\n", &address);
	return 0;
}

static void __exit vmgenid_exit(void)
{
	misc_deregister(&vmgenid_misc);
	memunmap((void *)counter);
}

module_init(vmgenid_init);
module_exit(vmgenid_exit);

MODULE_DESCRIPTION("The hypervisor's VM generation counter");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
