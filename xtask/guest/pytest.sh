#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the Python package's tests on the driver.

. /common.sh
. /suite.sh

# Semaphores of multiprocessing are files there.
mkdir /dev/shm
mount -t tmpfs shm /dev/shm

export PYTHONPATH=/package:/tools:/python PYTHONDONTWRITEBYTECODE=1
export SYSGENID_TEST_SOURCE=/dev/sysgenid
export SYSGENID_TEST_DIALECT="v$(cat /abi)"
# How many times longer than elsewhere a test may wait. The processor is emulated.
export SYSGENID_TEST_PATIENCE=10

# A test that hangs is shown, and ends all of it.
options="-p tap -p no:cacheprovider --tb=short --ignore-glob=*numpy*
	-o faulthandler_timeout=100 -o faulthandler_exit_on_timeout=true"

cd /src/sysgenid-py
insmod /sysgenid.ko abi="$(cat /abi)" && suite pytest /usr/bin/python3.11 -m pytest $options

[ -z "$failed" ] && echo "# PASS" && pass
fail
