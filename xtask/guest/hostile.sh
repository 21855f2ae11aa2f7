#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Attacks the userspace driver. Which cases, the kernel hands on from its command line: $cases.

. /common.sh
. /suite.sh

# For the socket that lingers over what it has not sent.
ifconfig lo 127.0.0.1 up
# How many times longer than elsewhere a case may wait. The processor is emulated.
export SYSGENID_TEST_PATIENCE=10

limit=3000
suite hostile /conformance hostile --broker --case "$cases"

[ -z "$failed" ] && echo "# PASS" && pass
fail
