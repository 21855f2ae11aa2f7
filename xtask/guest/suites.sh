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

echo "# suite load"
echo 1..2
insmod /sysgenid.ko && echo "ok 1 - insmod" || echo "not ok 1 - insmod"
mode=$(stat -c %a:%u /dev/sysgenid)
[ "$mode" = 600:0 ] && echo "ok 2 - node_is_roots_alone" || echo "not ok 2 - node_is_roots_alone ($mode)"
[ -c /dev/sysgenid ] && [ "$mode" = 600:0 ] || failed=1
echo "# end load $?"

suite raw /conformance raw --device /dev/sysgenid
suite typed /conformance typed --device /dev/sysgenid
suite model /conformance model --device /dev/sysgenid --cases "$(cat /cases)"
suite unload sh /unload.sh

[ -z "$failed" ] && echo "# PASS" && pass
fail
