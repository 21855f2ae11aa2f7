#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the agent that is snapshotted and restored. It talks to the host itself.

. /common.sh

if [ -e /sysgenid.ko ]; then
	insmod /sysgenid.ko abi="$(cat /abi)" && /conformance restore-guest --device /dev/sysgenid && pass
elif [ -e /sysgenid ]; then
	mkdir /run
	# It takes what works here, and in this machine that is the kernel's log.
	/sysgenid serve --dir /run/sysgenid >/tmp/serve.log 2>&1 </dev/null &
	serves() { grep -q '^clients find it' /tmp/serve.log; }
	tries=0
	until serves || [ $tries = 300 ]; do
		tries=$((tries + 1))
		sleep 0.1
	done
	# The line to the host is the agent's.
	cat /tmp/serve.log >/dev/ttyS0
	grep -qx 'follows kmsg' /tmp/serve.log && /conformance restore-guest --device /run/sysgenid && pass
else
	/conformance restore-guest && pass
fi
fail
