# SPDX-License-Identifier: Apache-2.0 OR MIT
# What a guest whose kernel has detectors does first. Sourced.

# What they report is counted, so one report must not hide the next.
echo 0 >/proc/sys/kernel/panic_on_warn
dmesg -n 8

debug=/sys/kernel/debug
mount -t debugfs debug $debug

# Any allocation can fail, also the small ones that may sleep. Which one does is each thread's own
# setting, and nothing fails without that.
for fault in failslab fail_page_alloc; do
	echo N >$debug/$fault/ignore-gfp-wait
	echo 0 >$debug/$fault/verbose
done
echo 0 >$debug/fail_page_alloc/min-order
echo 0 >$debug/fail_usercopy/verbose

[ -f /announcer.ko ] && insmod /announcer.ko
insmod /vmgenid.ko

# What the kernel's start left unreferenced is none of ours. An object counts after five seconds.
sleep 6
echo scan >$debug/kmemleak
echo clear >$debug/kmemleak
