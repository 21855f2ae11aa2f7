#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The kernel's own vmclock driver finds its device, and sysgenid loads beside it.

. /tap.sh

echo 1..2

for module in $(cat /modules); do
	insmod "/$module" || break
done && [ -c /dev/vmclock0 ]
report clock_is_found

insmod /sysgenid.ko && [ -c /dev/sysgenid ]
report insmod_beside_it

[ -z "$failed" ]
