#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# A module stays while anybody uses it, and goes when nobody does. Arguments: its name, its node.

. /tap.sh

module=${1:-sysgenid}
node=/dev/${2:-sysgenid}
loaded() { grep -q "^$module " /proc/modules; }
stays() { ! rmmod "$module" 2>/dev/null && loaded; }

echo 1..4

exec 3<"$node"
stays
report rmmod_refused_while_open
exec 3<&-

mkfifo /tmp/to /tmp/from
/hold "$node" </tmp/to >/tmp/from &
exec 4>/tmp/to 5</tmp/from
read -r word <&5
[ "$word" = mapped ] && stays
report rmmod_refused_while_mapped
exec 4>&- 5<&-
wait

rmmod "$module" && ! loaded && ! [ -e "$node" ]
report rmmod_when_unused

insmod "/$module.ko" && loaded && [ -c "$node" ]
report insmod_again

[ -z "$failed" ]
