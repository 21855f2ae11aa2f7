#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# On a machine without a counter that can be shown, the module does not load and says why. Which
# machine this is, the kernel hands on from its command line: $refused.

. /tap.sh

case $refused in
absent)
	error='No such device'
	reason='the hypervisor keeps no counter beside its VM generation id'
	;;
without-acpi)
	error='No such device'
	reason='this machine has no VM generation id'
	;;
malformed)
	error='Invalid argument'
	reason='the hypervisor does not say in a known form where its counter is'
	;;
misaligned)
	error='Invalid argument'
	reason='the counter at 0x000000000c000010 is not at the start of its page'
	;;
beside-the-id)
	error='Invalid argument'
	reason='the page of the counter at 0x000000000c000000 holds the VM generation id, too'
	;;
without-an-id)
	error='Invalid argument'
	reason='where the VM generation id lies is not known'
	;;
unreserved)
	error='Invalid argument'
	reason='the counter at 0x000000000c000000 lies in memory that was not reserved for it'
	;;
esac

case $refused in
without-an-id | without-acpi) echo 1..4 ;;
*) echo 1..3 ;;
esac

insmod /vmgenid_counter.ko 2>&1 | grep -q "$error"
report "insmod_is_refused_if_the_counter_is_$refused"

dmesg | grep -q "vmgenid_counter: $reason"
report "log_says_that_the_counter_is_$refused"

! [ -e /dev/vmgenid ] && ! grep -q ^vmgenid_counter /proc/modules
report nothing_is_left_behind

falls_back() {
	insmod "/$1.ko" && [ "$(cat /sys/class/misc/sysgenid/backend)" = trigger ] &&
		dmesg | grep -q 'sysgenid: .*only a trigger changes the generation' &&
		rmmod sysgenid
}
case $refused in
without-an-id)
	falls_back sysgenid-acpi
	report driver_that_listens_to_the_device_falls_back_to_a_trigger
	;;
without-acpi)
	falls_back sysgenid-acpi && falls_back sysgenid
	report every_driver_falls_back_to_a_trigger
	;;
esac

[ -z "$failed" ]
