/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The ACPI device by which a hypervisor tells that a machine was restored.
 *
 * The kernel's own driver may be bound to it, and keeps it: here it is only
 * looked at.
 */
#ifndef SYSGENID_VMGENID_ACPI_H
#define SYSGENID_VMGENID_ACPI_H

#include <linux/acpi.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/types.h>

#include "pure.h"

/* Of the VM generation id. */
#define VMGENID_LEN 16

#ifdef CONFIG_ACPI

static inline acpi_status vmgenid_first(acpi_handle handle, u32 level,
					void *context, void **found)
{
	*found = handle;
	return AE_CTRL_TERMINATE;
}

static inline acpi_handle vmgenid_first_of(const char *const *ids, size_t count)
{
	void *handle = NULL;
	size_t i;

	/* There may be no tables to look through. */
	if (acpi_disabled)
		return NULL;
	for (i = 0; !handle && i < count; i++)
		acpi_get_devices(ids[i], vmgenid_first, NULL, &handle);
	return handle;
}

/* The device that the kernel's own driver knows, or NULL. */
static inline acpi_handle vmgenid_find_known(void)
{
	/* Its compatible ids: the specification's, and one that fits in eight letters. */
	static const char *const ids[] = { "VM_GEN_COUNTER", "VMGENCTR" };

	return vmgenid_first_of(ids, ARRAY_SIZE(ids));
}

/* The device, or NULL if this machine has none. */
static inline acpi_handle vmgenid_find(void)
{
	/*
	 * The hardware ids that the first posting of a driver knew. A device may
	 * have one of them and no compatible id.
	 */
	static const char *const ids[] = { "VMGENID", "QEMUVGID" };
	acpi_handle known = vmgenid_find_known();

	return known ? known : vmgenid_first_of(ids, ARRAY_SIZE(ids));
}

/*
 * A physical address that the device gives by an object of this name: a package
 * of its lower and its upper half. -ENODEV if it has no such object.
 */
static inline int vmgenid_address(acpi_handle handle, const char *name,
				  phys_addr_t *address)
{
	struct acpi_buffer buffer = { ACPI_ALLOCATE_BUFFER, NULL };
	union acpi_object *object;
	acpi_status status;
	u64 halves[2];
	u64 whole = 0;
	int i;

	status = acpi_evaluate_object(handle, (acpi_string)name, NULL, &buffer);
	if (status == AE_NO_MEMORY)
		return -ENOMEM;
	if (ACPI_FAILURE(status))
		return -ENODEV;

	object = buffer.pointer;
	if (!object || object->type != ACPI_TYPE_PACKAGE ||
	    object->package.count != ARRAY_SIZE(halves))
		goto out;
	for (i = 0; i < ARRAY_SIZE(halves); i++) {
		const union acpi_object *half = &object->package.elements[i];

		if (half->type != ACPI_TYPE_INTEGER)
			goto out;
		halves[i] = half->integer.value;
	}
	whole = vmgenid_join(halves[0], halves[1]);
out:
	ACPI_FREE(buffer.pointer);
	*address = whole;
	/* One that does not fit here is as bad as none. */
	return whole && *address == whole ? 0 : -EINVAL;
}

#else

static inline void *vmgenid_find_known(void)
{
	return NULL;
}

#endif /* CONFIG_ACPI */

#endif /* SYSGENID_VMGENID_ACPI_H */
