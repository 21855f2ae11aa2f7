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
malformed)
	error='Invalid argument'
	reason='the hypervisor does not say in a known form where its counter is'
	;;
misaligned)
	error='Invalid argument'
	reason='the counter at 0x000000000c000010 is not at the start of its page'
	;;
unreserved)
	error='Invalid argument'
	reason='the counter at 0x000000000c000000 lies in memory that was not reserved for it'
	;;
esac

echo 1..3

insmod /vmgenid_counter.ko 2>&1 | grep -q "$error"
report "insmod_is_refused_if_the_counter_is_$refused"

dmesg | grep -q "vmgenid_counter: $reason"
report "log_says_that_the_counter_is_$refused"

! [ -e /dev/vmgenid ] && ! grep -q ^vmgenid_counter /proc/modules
report nothing_is_left_behind

[ -z "$failed" ]
