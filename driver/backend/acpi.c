// SPDX-License-Identifier: GPL-2.0
/*
 * Restores as the hypervisor announces them by ACPI, for kernels that are built
 * without a driver for that.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/io.h>
#include <linux/kdev_t.h>
#include <linux/major.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/string.h>

#include "../sysgenid.h"
#include "../vmgenid_acpi.h"

/* NULL if this machine has none: then only a trigger changes the generation. */
static acpi_handle device;

/* The hypervisor writes it while the machine stands still. */
static void *id;

/* ACPI may handle two notifications of one device at once. */
static DEFINE_MUTEX(known_lock);
static u8 known[VMGENID_LEN];

/*
 * The kernel's own /dev/random, NULL if it could not be had. Of all that asks
 * the kernel to reseed at once, its ioctl is what a module can reach.
 */
static struct file *random;

#define RANDOM_MINOR 8

static void open_random(void)
{
	struct file *file = filp_open("/dev/random", O_RDONLY, 0);
	int ret = PTR_ERR_OR_ZERO(file);

	if (!ret && file_inode(file)->i_rdev == MKDEV(MEM_MAJOR, RANDOM_MINOR)) {
		random = file;
#ifndef HAVE_RESEED_ON_REQUEST
		pr_warn("this kernel may ignore a request to reseed: until it does, clones may draw the same random numbers after a restore\n");
#endif
		return;
	}
	if (!ret)
		filp_close(file, NULL);
	pr_warn("no /dev/random here (%d): until the kernel reseeds, clones may draw the same random numbers after a restore\n",
		ret);
}

static void close_random(void)
{
	if (random)
		filp_close(random, NULL);
}

/*
 * The kernel has no driver that does this here. Clones that are woken to make
 * new secrets would make the same ones: they drew the same numbers when this
 * only mixed the id in.
 */
static void reseed(void)
{
	long ret = -ENOENT;

	add_device_randomness(known, VMGENID_LEN);
	if (random)
		ret = random->f_op->unlocked_ioctl(random, RNDRESEEDCRNG, 0);
	if (ret)
		pr_err("the kernel's random numbers were not reseeded: %ld\n", ret);
#ifndef HAVE_RESEED_ON_REQUEST
	/* It says 0 in either case. */
	else
		pr_warn("whether the kernel's random numbers were reseeded is not known\n");
#endif
}

/* The kernel's random numbers first: a program that is woken makes secrets. */
static void look(void)
{
	mutex_lock(&known_lock);
	if (memcmp(known, id, VMGENID_LEN)) {
		memcpy(known, id, VMGENID_LEN);
		reseed();
		sysgenid_bump(0, SYSGENID_RESTORE);
	}
	mutex_unlock(&known_lock);
}

static void notified(acpi_handle handle, u32 event, void *context)
{
	look();
}

static int listen(acpi_handle handle)
{
	phys_addr_t address;
	acpi_status status;
	int ret;

	ret = vmgenid_address(handle, "ADDR", &address);
	if (ret)
		return ret;
	/* Where the guest's memory is encrypted, what the host writes is not. */
	id = memremap(address, VMGENID_LEN, MEMREMAP_WB | MEMREMAP_DEC);
	if (!id)
		return -ENOMEM;

	memcpy(known, id, VMGENID_LEN);
	open_random();
	status = acpi_install_notify_handler(handle, ACPI_DEVICE_NOTIFY,
					     notified, NULL);
	if (ACPI_SUCCESS(status)) {
		/* A restore since the id was read has notified nothing of ours. */
		look();
		return 0;
	}
	close_random();
	memunmap(id);
	return status == AE_NO_MEMORY ? -ENOMEM : -EIO;
}

int sysgenid_backend_start(void)
{
	acpi_handle handle = vmgenid_find();
	int ret;

	if (!handle) {
		pr_warn("this machine announces no restores: only a trigger changes the generation\n");
		return 0;
	}
	ret = listen(handle);
	if (ret == -ENODEV) {
		pr_warn("the VM generation id's device does not say where the id is: only a trigger changes the generation\n");
		return 0;
	}
	if (ret) {
		pr_err("cannot listen to the VM generation id: %d\n", ret);
		return ret;
	}
	device = handle;
	return 0;
}

void sysgenid_backend_stop(void)
{
	if (!device)
		return;
	/* It returns when no notification is being handled any more. */
	acpi_remove_notify_handler(device, ACPI_DEVICE_NOTIFY, notified);
	close_random();
	memunmap(id);
}

const char *sysgenid_backend_name(void)
{
	return device ? "acpi" : "trigger";
}
