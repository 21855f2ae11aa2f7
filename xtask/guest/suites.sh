#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs the suites that the host asks for.

. /common.sh
[ -f /detectors.sh ] && . /detectors.sh
. /suite.sh

conformance() { suite "$1" /conformance "$@" --device /dev/sysgenid --dialect "v$(cat /abi)"; }

for name in $(cat /suites); do
	case $name in
	load | unload | leaks) suite "$name" sh "/$name.sh" ;;
	# On a driver that is as silent about its watchers as the shipped ones.
	silent) suite silent /conformance typed --silent --device /dev/sysgenid --dialect "v$(cat /abi)" ;;
	bumps) conformance bumps --changes 10000 ;;
	model) conformance model --cases "$(cat /cases)" ;;
	*) conformance "$name" $(cat "/$name.arguments" 2>/dev/null) ;;
	esac
done

[ -z "$failed" ] && echo "# PASS" && pass
fail
