# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a suite as a child, between lines that tell the host where it begins and ends. Sourced.

failed=
# The most seconds that a suite may take, on a machine that does other things as well. The host gives
# the whole run twenty minutes.
limit=1100

suite() {
	suite=$1
	shift
	echo "# suite $suite"
	timeout -s KILL "$limit" "$@"
	code=$?
	[ "$code" = 0 ] || failed=1
	echo "# end $suite $code"
}
