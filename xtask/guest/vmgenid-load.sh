#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The counter's module loads beside the kernel's own driver and beside sysgenid.

. /tap.sh

echo 1..5

insmod /vmgenid_counter.ko
report insmod

[ -c /dev/vmgenid ] && [ "$(stat -c %a:%u:%g /dev/vmgenid)" = 600:0:0 ]
report node_is_for_root_alone

dmesg | grep -q "vmgenid_counter: the counter is at 0x000000000c000000"
report log_names_the_address

# An ACPI driver at first, a platform driver later. A kernel that has none has no such backend.
bound() { ls -d /sys/bus/*/drivers/vmgenid/*:00 >/dev/null 2>&1; }
if [ "$(cat /backend)" = vmfork ]; then bound; else ! bound; fi
report device_is_left_to_the_kernels_own_driver

insmod /sysgenid.ko && [ -c /dev/sysgenid ] && [ -c /dev/vmgenid ]
report insmod_beside_sysgenid

[ -z "$failed" ]
