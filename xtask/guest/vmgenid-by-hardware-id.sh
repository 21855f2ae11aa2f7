#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A device that has a hardware id and no compatible one: the counter is found, and so is the VM
# generation id, by the driver that listens to the device itself. What the host is asked for, it does
# before it answers.

. /tap.sh

ask() {
	echo "ask $1"
	read -r answer && [ "$answer" = done ]
}
generation_is() {
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		[ "$(cat /sys/class/misc/sysgenid/generation)" = "$1" ] && return
		sleep 1
	done
	return 1
}
logs() { dmesg | grep -q "sysgenid: $1"; }

echo 1..9

insmod /vmgenid_counter.ko && [ -c /dev/vmgenid ]
report counter_is_found_by_the_hardware_id

rmmod vmgenid_counter && insmod /sysgenid.ko &&
	[ "$(cat /sys/class/misc/sysgenid/backend)" = "$(sed s/vmfork/trigger/ /backend)" ]
report kernel_that_knows_no_hardware_id_is_not_said_to_announce_restores
rmmod sysgenid

insmod /sysgenid-acpi.ko && [ "$(cat /sys/class/misc/sysgenid/backend)" = acpi ]
report id_is_found_by_the_hardware_id

ask notify && sleep 1 && generation_is 0
report notification_of_the_same_id_changes_nothing

ask 'id 1' && ask notify && generation_is 1
report notification_of_a_new_id_changes_the_generation

! logs 'this kernel may ignore' && ! logs 'whether the kernel'
report kernel_that_reseeds_is_not_doubted

rmmod sysgenid && insmod /sysgenid-unheard.ko &&
	logs 'this kernel may ignore a request to reseed'
report kernel_that_may_not_reseed_is_named_at_load

ask 'id 2' && ask notify && generation_is 1
report the_generation_changes_all_the_same

logs "whether the kernel's random numbers were reseeded is not known"
report kernel_that_may_not_have_reseeded_is_named_at_a_restore

[ -z "$failed" ]
