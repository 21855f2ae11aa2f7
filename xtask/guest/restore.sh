#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the agent that is snapshotted and restored. It talks to the host itself.

. /common.sh

if [ -e /sysgenid.ko ]; then
	insmod /sysgenid.ko abi="$(cat /abi)" && /conformance restore-guest --device /dev/sysgenid && pass
else
	/conformance restore-guest && pass
fi
fail
