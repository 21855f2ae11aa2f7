#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the warm interpreters and their agent, which talks to the host itself. What goes wrong in
# them is said where the host looks for it.

. /common.sh

export PYTHONPATH=/package PYTHONDONTWRITEBYTECODE=1
insmod /sysgenid.ko abi="$(cat /abi)" &&
	/usr/bin/python3.11 /python/agent.py 2>/dev/console && pass
fail
