#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The module stays while anybody uses it, and goes when nobody does.

. /tap.sh

loaded() { grep -q '^sysgenid ' /proc/modules; }
stays() { ! rmmod sysgenid 2>/dev/null && loaded; }

echo 1..4

exec 3</dev/sysgenid
stays
report rmmod_refused_while_open
exec 3<&-

mkfifo /tmp/to /tmp/from
/hold /dev/sysgenid </tmp/to >/tmp/from &
exec 4>/tmp/to 5</tmp/from
read -r word <&5
[ "$word" = mapped ] && stays
report rmmod_refused_while_mapped
exec 4>&- 5<&-
wait

rmmod sysgenid && ! loaded && ! [ -e /dev/sysgenid ]
report rmmod_when_unused

insmod /sysgenid.ko && loaded && [ -c /dev/sysgenid ]
report insmod_again

[ -z "$failed" ]
