#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs each suite as a child, between lines that tell the host where it begins and ends.

. /common.sh

failed=

suite() {
	suite=$1
	shift
	echo "# suite $suite"
	timeout -s KILL 600 "$@"
	code=$?
	[ "$code" = 0 ] || failed=1
	echo "# end $suite $code"
}

conformance() { suite "$1" /conformance "$@" --device /dev/sysgenid --dialect "v$(cat /abi)"; }

for name in $(cat /suites); do
	case $name in
	load | unload) suite "$name" sh "/$name.sh" ;;
	# On a driver that is as silent about its watchers as the shipped ones.
	silent) suite silent /conformance typed --silent --device /dev/sysgenid --dialect "v$(cat /abi)" ;;
	model) conformance model --cases "$(cat /cases)" ;;
	*) conformance "$name" ;;
	esac
done

[ -z "$failed" ] && echo "# PASS" && pass
fail
