#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The module loads, and its node is there for root and for 32-bit processes.

. /tap.sh

echo 1..3

insmod /sysgenid.ko
report insmod

[ -c /dev/sysgenid ] && [ "$(stat -c %a:%u:%g /dev/sysgenid)" = 600:0:0 ]
report node_is_for_root_alone

/ioctl32 /dev/sysgenid
report ioctl_of_a_32_bit_process

[ -z "$failed" ]
