// SPDX-License-Identifier: GPL-2.0
/*
 * Restores as the hypervisor announces them by ACPI, for kernels that are built
 * without a driver for that.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/acpi.h>
#include <linux/io.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/string.h>

#include "sysgenid.h"
#include "vmgenid_acpi.h"

#define ID_LEN 16

/* NULL if this machine has none: then only a trigger changes the generation. */
static acpi_handle device;

/* The hypervisor writes it while the machine stands still. */
static void *id;

/* ACPI may handle two notifications of one device at once. */
static DEFINE_MUTEX(known_lock);
static u8 known[ID_LEN];

static void notified(acpi_handle handle, u32 event, void *context)
{
	mutex_lock(&known_lock);
	if (memcmp(known, id, ID_LEN)) {
		memcpy(known, id, ID_LEN);
		/*
		 * Clones draw different numbers from the kernel's next
		 * reseeding on. To reseed now is not for a module to do.
		 */
		add_device_randomness(known, ID_LEN);
		sysgenid_bump(0, SYSGENID_RESTORE);
	}
	mutex_unlock(&known_lock);
}

static int listen(acpi_handle handle)
{
	phys_addr_t address;
	acpi_status status;
	int ret;

	ret = vmgenid_address(handle, "ADDR", &address);
	if (ret)
		return ret;
	id = memremap(address, ID_LEN, MEMREMAP_WB);
	if (!id)
		return -ENOMEM;

	memcpy(known, id, ID_LEN);
	status = acpi_install_notify_handler(handle, ACPI_DEVICE_NOTIFY,
					     notified, NULL);
	if (ACPI_SUCCESS(status))
		return 0;
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
	if (ret) {
		pr_err("cannot listen to the VM generation id: %d\n", ret);
		return ret;
	}
	device = handle;
	pr_warn("this kernel does not reseed its random numbers at a restore\n");
	return 0;
}

void sysgenid_backend_stop(void)
{
	if (!device)
		return;
	/* It returns when no notification is being handled any more. */
	acpi_remove_notify_handler(device, ACPI_DEVICE_NOTIFY, notified);
	memunmap(id);
}

const char *sysgenid_backend_name(void)
{
	return device ? "acpi" : "trigger";
}
