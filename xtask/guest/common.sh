# SPDX-License-Identifier: Apache-2.0 OR MIT
# What every guest begins and ends with. Sourced by the first process.

if [ -x /bin/busybox ]; then
	/bin/busybox --install -s /bin
	export PATH=/bin
else
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin
fi

mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp

# The second serial port is the line to the host: bytes as they are, no echo.
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
# From here on, whatever ends the machine is a result.
echo "# begun"

# A warning or an oops ends the machine, so no test can pass over it.
echo 1 >/proc/sys/kernel/panic_on_warn
echo 1 >/proc/sys/kernel/panic_on_oops

# Tells the host, in a way that no crash does by accident.
pass() { /exit 5; }
fail() { /exit 6; }
