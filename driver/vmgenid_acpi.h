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

#ifdef CONFIG_ACPI

static inline acpi_status vmgenid_first(acpi_handle handle, u32 level,
					void *context, void **found)
{
	*found = handle;
	return AE_CTRL_TERMINATE;
}

/* The device, or NULL if this machine has none. */
static inline acpi_handle vmgenid_find(void)
{
	/* Its compatible ids: the specification's, and one that fits in eight letters. */
	static const char *const ids[] = { "VM_GEN_COUNTER", "VMGENCTR" };
	void *handle = NULL;
	size_t i;

	for (i = 0; !handle && i < ARRAY_SIZE(ids); i++)
		acpi_get_devices(ids[i], vmgenid_first, NULL, &handle);
	return handle;
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
	int ret = -EINVAL;
	acpi_status status;
	u64 halves[2];
	u64 whole;
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

		if (half->type != ACPI_TYPE_INTEGER || half->integer.value > U32_MAX)
			goto out;
		halves[i] = half->integer.value;
	}
	whole = halves[1] << 32 | halves[0];
	*address = whole;
	/* One that does not fit here is as bad as none. */
	ret = whole && *address == whole ? 0 : -EINVAL;
out:
	ACPI_FREE(buffer.pointer);
	return ret;
}

#endif /* CONFIG_ACPI */

#endif /* SYSGENID_VMGENID_ACPI_H */
