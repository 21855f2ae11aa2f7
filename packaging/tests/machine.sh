#!/bin/bash
# SPDX-License-Identifier: Apache-2.0 OR MIT
#
# A systemd of its own, on a copy of this machine's files that nothing outlives: in new namespaces, with
# the tests as its only target. Called by `cargo xtask test` as the first process of them, with a folder
# for the copy and one with the packages and the tests.
set -e

copy=$1 given=$2
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$copy"
root=$copy/root
mkdir "$copy/upper" "$copy/work" "$root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$copy/upper,workdir=$copy/work" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty kmsg; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/shm" "$root/dev/pts"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/given"
mount --bind "$given" "$root/given"

# Nothing of this machine's services, and none of its bans on starting some.
units=$root/etc/systemd/system
rm -rf "$units" "$root/usr/sbin/policy-rc.d"
mkdir -p "$units"
cat >"$units/tests.target" <<UNIT
[Unit]
Requires=tests.service
UNIT
cat >"$units/tests.service" <<UNIT
[Unit]
DefaultDependencies=no
SuccessAction=exit
FailureAction=exit

[Service]
Type=oneshot
ExecStart=/bin/bash /given/service.sh
StandardOutput=file:/given/report
StandardError=inherit
TimeoutStartSec=120
UNIT
cd "$root"
exec chroot "$root" env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
	/lib/systemd/systemd --system --unit=tests.target --log-target=null
