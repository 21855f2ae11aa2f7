# SPDX-License-Identifier: Apache-2.0 OR MIT
"""After a container was restored: tell everybody, wait until all have rebuilt, then serve again.

A service must be there that rebuilds: without one, it says so and does not serve.
In a virtual machine the driver notices the restore by itself: there `orchestrator.wait(timeout)`
takes the place of `orchestrator.trigger()`.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python watchdog_thread.py
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid python orchestrate_restore.py
"""

from __future__ import annotations

import sys

import sysgenid

DEADLINE = 5.0
node = sysgenid.entropy(8).hex()


@sysgenid.after_restore
def rebuild(change: sysgenid.Change) -> None:
    """What is the orchestrator's own."""
    global node
    node = sysgenid.entropy(8).hex()
    print(f"generation {change.generation}: node {node}", flush=True)


def main() -> None:
    """Quiesce, change, rebuild, wait for the others, resume."""
    with sysgenid.Orchestrator(require_watchers=1) as orchestrator:
        print(f"quiesced at generation {orchestrator.generation}", flush=True)
        orchestrator.trigger()
        try:
            settled = orchestrator.settle(DEADLINE)
        except sysgenid.TimedOutError as error:
            # Serving again now would let a stale secret out. An agent would restart these.
            for straggler in orchestrator.stragglers():
                print(f"not ready: {straggler}, at generation {straggler.acknowledged}")
            sys.exit(f"{error}")
        told = f"{settled.watchers} have acknowledged generation {settled.generation}"
        print(f"{told}: resumed", flush=True)


if __name__ == "__main__":
    try:
        main()
    except sysgenid.Error as error:
        sys.exit(f"{error}")
