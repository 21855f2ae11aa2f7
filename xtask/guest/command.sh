#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0 OR MIT
# The command on a counter of the hypervisor's, beside sysgenid. Arguments: its kind, its node.

. /tap.sh

kind=$1
node=$2
# What it says goes to a file: a case looks for words in it.
run() { /sysgenid "$@" >/tmp/said 2>&1; }
says() { grep -qF -- "$1" /tmp/said; }

echo 1..6

run --source "$node" status --json && says "\"source\":\"$node\",\"kind\":\"$kind\"" && says '"watchers":null'
report status_shows_the_counter

run status && says 'source      /dev/sysgenid' && says "beside it   $node (the hypervisor's"
report status_says_what_is_beside_it

run status --json && says '"source":"/dev/sysgenid"' && says "\"beside\":\"$node\""
report status_says_so_in_json

mv /dev/sysgenid /dev/away
run status --json && says "\"source\":\"$node\",\"kind\":\"$kind\"" && ! says beside
report status_shows_it_where_there_is_no_driver
mv /dev/away /dev/sysgenid

for command in watch wait; do
	run --source "$node" "$command"
	[ $? = 6 ] && says "$node: a counter of the hypervisor's" && says 'modprobe sysgenid'
	report "${command}_says_what_to_do_instead"
done

[ -z "$failed" ]
