#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Hibernates to a disk, and goes on when a machine with that disk boots this again.

. /common.sh

for module in $(cat /modules); do
	insmod "/$module" || fail
done
for _ in 1 2 3 4 5 6 7 8 9 10; do
	[ -b /dev/vda ] || sleep 1
done

# With an image on the disk, this is the last that this system does: the one of the image goes on,
# further down.
cat /sys/class/block/vda/dev >/sys/power/resume

insmod /sysgenid.ko hibernation="$(cat /hibernation)" || fail
generation() { cat /sys/class/misc/sysgenid/generation; }

dd if=/dev/sysgenid of=/tmp/read bs=4 count=1 2>/dev/null &

mkswap /dev/vda >/dev/null && swapon /dev/vda || fail
echo shutdown >/sys/power/disk
echo "hibernating generation=$(generation)"
echo disk >/sys/power/state || fail

# Twelve times as slow as a real one, the reader needs a moment.
for _ in 1 2 3; do
	[ -s /tmp/read ] || sleep 1
done
[ -s /tmp/read ] && woken=yes || woken=no
echo "resumed generation=$(generation) woken=$woken"
pass
