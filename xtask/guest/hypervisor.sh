#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs suites on what the hypervisor keeps, and then the agent that is restored. Which ones, the
# kernel hands on from its command line: $suites, $agent and $turns.

. /common.sh
. /suite.sh

for name in $(echo "$suites" | tr , ' '); do
	case $name in
	vmgenid) suite vmgenid /conformance vmgenid --device /dev/vmgenid ;;
	vmclock) suite vmclock /conformance vmclock --device /dev/vmclock0 ;;
	hypervisor) suite hypervisor /conformance hypervisor $agent ;;
	command)
		node=${agent#*=}
		kind=${agent%%=*}
		suite "$name" sh /command.sh "${kind#--}" "$node"
		;;
	vmgenid-unload) suite "$name" sh /unload.sh vmgenid_counter vmgenid ;;
	*) suite "$name" sh "/$name.sh" ;;
	esac
done
[ -z "$failed" ] || fail
echo "# PASS"
case $agent in
'') pass ;;
bare) /conformance vmclock-guest --device /dev/vmclock0 --sysgenid /dev/sysgenid && pass ;;
*) /conformance first-load $agent --sysgenid /dev/sysgenid --turns "$turns" && pass ;;
esac
fail
