# SPDX-License-Identifier: Apache-2.0 OR MIT
# For suites in shell: says how the command before went, and remembers it. Sourced.

failed=
number=0

report() {
	code=$?
	number=$((number + 1))
	if [ "$code" = 0 ]; then
		echo "ok $number - $1"
	else
		echo "not ok $number - $1"
		failed=1
	fi
}
