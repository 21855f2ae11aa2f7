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

cd /src/sysgenid-py
insmod /sysgenid.ko abi="$(cat /abi)" &&
	suite pytest /usr/bin/python3.11 -m pytest -p tap -p no:cacheprovider --tb=short --ignore-glob="*numpy*"

[ -z "$failed" ] && echo "# PASS" && pass
fail
