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

for name in $(cat /suites); do
	case $name in
	load | unload) suite "$name" sh "/$name.sh" ;;
	model) suite model /conformance model --device /dev/sysgenid --cases "$(cat /cases)" ;;
	*) suite "$name" /conformance "$name" --device /dev/sysgenid ;;
	esac
done

[ -z "$failed" ] && echo "# PASS" && pass
fail
