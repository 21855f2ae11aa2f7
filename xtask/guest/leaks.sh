#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Nothing was left behind, by the driver at work or by its removal, and those who watch still do.

. /tap.sh

kmemleak=/sys/kernel/debug/kmemleak

# Twice, because a pointer may be in a register during the first. Reports go to the console, where
# all detectors report.
nothing_is_unreferenced() {
	sleep 6
	echo scan >$kmemleak && echo scan >$kmemleak && ! grep . $kmemleak >/dev/console
}

echo 1..4

rmmod sysgenid && insmod /sysgenid.ko
report module_comes_and_goes

nothing_is_unreferenced
report nothing_is_unreferenced

rmmod sysgenid && nothing_is_unreferenced
report nothing_is_unreferenced_without_the_module

# It stops watching at its first report, and when it runs out of memory.
grep -q 'debug_locks: *1' /proc/lockdep_stats
report locks_are_watched

[ -z "$failed" ]
