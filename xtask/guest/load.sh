#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The module loads, says what it is, and its node is there for root and for 32-bit processes.

. /tap.sh

attributes=/sys/class/misc/sysgenid
says() { [ "$(cat "$attributes/$1")" = "$2" ]; }
# On the console, not in the kernel's buffer: that one says it to whoever asks, this one unasked.
logs() { dmesg | grep -q "sysgenid: $1"; }

abi=$(cat /abi)
backend=$(cat /backend)

[ -x /examples ] && echo 1..9 || echo 1..8

for wrong in 0 4 7 4294967295 -1 six; do
	! insmod /sysgenid.ko abi=$wrong 2>/dev/null || break
done && ! [ -e /dev/sysgenid ]
report insmod_refused_with_a_dialect_that_is_none

insmod /sysgenid.ko abi="$abi"
report insmod

[ -c /dev/sysgenid ] && [ "$(stat -c %a:%u:%g /dev/sysgenid)" = 600:0:0 ]
report node_is_for_root_alone

says dialect "v$abi" && says generation 0 && says watchers 0
report attributes_say_the_dialect_and_a_fresh_counter

says backend "$backend"
report attributes_say_the_backend

logs "dialect v$abi, backend $backend"
report log_names_the_dialect_and_the_backend

# It is a warning, so it is on the console of those who never ask.
warns() { dmesg | grep -q 'sysgenid: .*only a trigger changes the generation'; }
if [ "$backend" = trigger ]; then warns; else ! warns; fi
report log_warns_if_nobody_announces_restores

if [ -x /examples ]; then
	/examples
	report examples_of_the_kernels_page_run
fi

/ioctl32 /dev/sysgenid "$abi"
report ioctl_of_a_32_bit_process

[ -z "$failed" ]
