# SPDX-License-Identifier: Apache-2.0 OR MIT
# Runs a suite as a child, between lines that tell the host where it begins and ends. Sourced.

failed=
# The most seconds that a suite may take.
limit=600

suite() {
	suite=$1
	shift
	echo "# suite $suite"
	timeout -s KILL "$limit" "$@"
	code=$?
	[ "$code" = 0 ] || failed=1
	echo "# end $suite $code"
}
