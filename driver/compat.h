/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that this builds for, 5.10 and later.
 *
 * Kbuild looks each feature up in the kernel's headers and defines HAVE_... if
 * it is there. Versions say little: distributions port back.
 */
#ifndef SYSGENID_COMPAT_H
#define SYSGENID_COMPAT_H

#include <linux/mm.h>

#ifndef HAVE_VM_FLAGS_MOD
static inline void vm_flags_mod(struct vm_area_struct *vma, vm_flags_t set,
				vm_flags_t clear)
{
	vma->vm_flags |= set;
	vma->vm_flags &= ~clear;
}
#endif

#endif /* SYSGENID_COMPAT_H */
