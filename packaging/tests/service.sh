#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# The package, installed, upgraded, removed and purged, where systemd runs: see machine.sh.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
package=/given/sysgenid.deb
run=/run/sysgenid
number=0

check() {
	local name=$1
	shift
	number=$((number + 1))
	if "$@" >/tmp/said 2>&1; then
		echo "ok $number - $name"
	else
		echo "not ok $number - $name"
		sed 's/^/# /' /tmp/said
	fi
}
install() { dpkg --force-depends --install "$package"; }
is_active() { systemctl is-active --quiet sysgenid; }
page() { stat -c %i "$run/page"; }
generation() { sysgenid get; }
listed() { find /etc /lib /usr /var/lib -xdev -not -path '/var/lib/dpkg/*' | sort; }
status_of() { grep "^$1:" "/proc/$(systemctl show -P MainPID sysgenid)/status" | cut -f 2; }

echo 1..17
listed >/tmp/before

check package_is_installed install
check service_runs_at_once is_active
check systemd_knows_what_it_serves \
	bash -c 'systemctl show -P StatusText sysgenid | grep "serving generation .* in /run/sysgenid"'
check service_runs_as_a_user_of_its_own \
	test "$(stat -c %U "$run/page")" = sysgenid
check everybody_finds_it setpriv --reuid=65534 --regid=65534 --clear-groups sysgenid status
# Root may, others may not.
check root_may_trigger sysgenid trigger
check others_may_not_trigger \
	bash -c 'setpriv --reuid=65534 --regid=65534 --clear-groups sysgenid trigger; test $? = 4'
check it_has_no_way_to_more_rights test "$(status_of NoNewPrivs) $(status_of Seccomp)" = "1 2"
check it_has_the_one_capability_at_most \
	bash -c "caps=$(status_of CapPrm); test \$caps || exit; (( (0x\$caps | 1 << 34) == 1 << 34 ))"

# What has mapped the page, as AWS-LC does, keeps one that is alive.
before=$(page) known=$(generation)
check restart_keeps_page_and_generation \
	bash -c "systemctl restart sysgenid && test \$(stat -c %i $run/page) = $before && test \$(sysgenid get) = $known"
# It stays, because one that has acknowledged and ended is not counted by the wait.
sysgenid watch --reconnect --tracked >/tmp/watch 2>/tmp/watching &
watch=$!
for _ in {1..300}; do
	grep -q watching /tmp/watching && break
	sleep 0.1
done
check upgrade_succeeds install
check upgrade_keeps_the_page test "$(page) $(generation)" = "$before $known"
check watcher_survives_the_upgrade bash -c \
	'sysgenid trigger --wait=30s && until grep changed /tmp/watch; do sleep 0.1; done'
kill "$watch"
wait "$watch"
check a_killed_driver_is_back bash -c \
	'kill -KILL $(systemctl show -P MainPID sysgenid); sleep 3; sysgenid status'
known=$(generation)
check removal_keeps_the_page bash -c \
	"dpkg --remove sysgenid && test \$(stat -c %i $run/page) = $before && ! systemctl is-active sysgenid"
check purge_succeeds dpkg --purge sysgenid
listed >/tmp/after
# The user stays, as Debian has it: its files may.
check purge_leaves_nothing bash -c \
	"diff <(grep -v '^/etc/\(passwd\|group\|shadow\|gshadow\|\.pwd\.lock\)\|^/var/lib/systemd' /tmp/before) \
		<(grep -v '^/etc/\(passwd\|group\|shadow\|gshadow\|\.pwd\.lock\)\|^/var/lib/systemd' /tmp/after) && ! test -e $run"
echo "# done"
