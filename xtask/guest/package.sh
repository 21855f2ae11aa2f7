#!/bin/sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The driver as an administrator installs it: by DKMS and a few files, on Debian.

. /common.sh
. /tap.sh

mount -t tmpfs run /run
# As udev makes it at boot; bash needs it.
ln -s /proc/self/fd /dev/fd
export HOME=/root LC_ALL=C

kernel=$(uname -r)
version=$(sed -n 's/^PACKAGE_VERSION="\(.*\)"/\1/p' /src/dkms.conf)
modules=$(sed -n 's/^BUILT_MODULE_NAME.*="\(.*\)"/\1/p' /src/dkms.conf)
tree=/var/lib/dkms/sysgenid/$version/$kernel/$(uname -m)

# Shows what a command says only if it fails.
quietly() {
	"$@" >/tmp/said 2>&1 && return
	sed 's/^/# /' /tmp/said
	return 1
}
field() { modinfo -F "$1" "$2"; }
every_module() {
	for module in $modules; do
		"$@" "$module" || return 1
	done
}
as_nobody() { setpriv --reuid nobody --regid nogroup "$@"; }
# What a shell does with a node: opens it for reading, or for both.
reads() { quietly "$@" sh -c ': </dev/sysgenid'; }
writes() { "$@" sh -c ': <>/dev/sysgenid' 2>/dev/null; }
node_is() { [ "$(stat -c %a:%U:%G /dev/sysgenid)" = "$1" ]; }
installed() { find /lib/modules /usr/src /var/lib/dkms | grep -v '/modules\.' | sort; }

# DKMS signs from version 3 on, with a key that it makes itself.
if grep -q mok_signing_key /usr/sbin/dkms; then
	signature="PKCS#7:DKMS module signing key"
	left="> /var/lib/dkms/mok.key > /var/lib/dkms/mok.pub "
else
	signature=:
	left=
fi
# DKMS leaves a kernel alone that has no list of modules, and there are no others here to list.
list_modules() { depmod 2>/dev/null; }
list_modules

echo 1..18
installed >/tmp/before

quietly dkms add /src
report dkms_adds_the_source

quietly dkms build "sysgenid/$version" && ! grep -i warning: "$tree/log/make.log"
report dkms_builds_without_warnings

is_found() { [ "$(modinfo -n "$1")" = "/lib/modules/$kernel/updates/dkms/$1.ko" ]; }
quietly dkms install "sysgenid/$version" && every_module is_found
report dkms_installs_where_modprobe_looks

is_described() {
	[ "$(field version "$1")" = "$version" ] && [ "$(field license "$1")" = GPL ] &&
		[ -n "$(field description "$1")" ] && field vermagic "$1" | grep -q "^$kernel "
}
every_module is_described
report modules_say_version_licence_and_kernel

field parm sysgenid | cut -d: -f1 | sort | xargs >/tmp/parameters
[ "$(cat /tmp/parameters)" = "abi hibernation" ]
report driver_has_its_parameters

is_signed() { [ "$(field sig_id "$1"):$(field signer "$1")" = "$signature" ]; }
every_module is_signed
report modules_are_signed_with_the_key_of_dkms_if_it_has_one

quietly make -C /src config_install && [ -f /usr/lib/sysusers.d/sysgenid.conf ] &&
	[ -f /usr/lib/modules-load.d/sysgenid.conf ] &&
	[ -f /usr/lib/udev/rules.d/60-sysgenid.rules ]
report configuration_is_installed

quietly systemd-sysusers && grep -q '^sysgenid:' /etc/group
report group_is_made

quietly /lib/systemd/systemd-udevd --daemon && quietly /lib/systemd/systemd-modules-load &&
	quietly udevadm settle && [ -c /dev/sysgenid ]
report module_is_loaded_at_boot

node_is 640:root:sysgenid
report node_belongs_to_the_group

reads as_nobody --groups sysgenid && ! writes as_nobody --groups sysgenid
report group_may_read_and_not_write

[ -c /dev/sysgenid ] && ! reads as_nobody --clear-groups >/dev/null &&
	! writes as_nobody --clear-groups
report others_may_do_neither

mkdir -p /etc/udev/rules.d
echo 'SUBSYSTEM=="misc", KERNEL=="sysgenid", MODE="0660"' >/etc/udev/rules.d/70-local.rules
udevadm control --reload && udevadm trigger --settle /dev/sysgenid &&
	node_is 660:root:sysgenid && writes as_nobody --groups sysgenid
report rule_of_the_administrator_lets_the_group_write

mkdir -p /etc/modprobe.d
echo 'options sysgenid abi=5' >/etc/modprobe.d/sysgenid.conf
modprobe -r sysgenid && modprobe sysgenid &&
	[ "$(cat /sys/class/misc/sysgenid/dialect)" = v5 ]
report options_of_modprobe_choose_the_dialect

modprobe -r sysgenid && ! [ -e /dev/sysgenid ]
report module_goes

quietly dkms uninstall "sysgenid/$version" && ! modprobe -q sysgenid && list_modules &&
	quietly /etc/kernel/postinst.d/dkms "$kernel" && every_module is_found
report installing_a_kernel_installs_the_modules_for_it

# As with Secure Boot: the key is in no keyring of this kernel.
echo Y >/sys/module/module/parameters/sig_enforce
! modprobe sysgenid 2>/tmp/said && grep -q 'Key was rejected by service' /tmp/said
report unknown_key_is_refused_where_signatures_are_enforced

quietly dkms remove "sysgenid/$version" --all && installed >/tmp/after &&
	diff /tmp/before /tmp/after | grep '^[<>]' | grep -v "/usr/src/sysgenid-$version\(/\|$\)" |
	sort | tr '\n' ' ' >/tmp/left && [ "$(cat /tmp/left)" = "$left" ]
report dkms_removes_all_but_its_key_and_the_source

[ -z "$failed" ] && pass
fail
