# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A watchdog thread replaces the service's session identifier after a restore.

Between the restore and the replacement, the service still sees the old identifier. Where that must
not happen, guard the value instead: guard_cached_secret.py.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python watchdog_thread.py
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger, three times
"""

from __future__ import annotations

import sys
import threading

import sysgenid

CHANGES, PATIENCE = 3, 60.0  # an example ends
handled = threading.Semaphore(0)
session = sysgenid.entropy(8).hex()


@sysgenid.after_restore
def replace_session(change: sysgenid.Change) -> None:
    """Takes its randomness from the kernel, which was reseeded before this is called."""
    global session
    session = sysgenid.entropy(8).hex()
    print(f"generation {change.generation}: session {session}", flush=True)
    handled.release()


def main() -> None:
    """Watches in a thread, which reconnects by itself if the broker is restarted."""
    sysgenid.verify()  # the thread would wait for a source without a word
    with sysgenid.background() as watchdog:
        print(f"watching from generation {watchdog.generation}", flush=True)
        for _ in range(CHANGES):
            # ... the service serves here ...
            if not handled.acquire(timeout=PATIENCE):
                sys.exit("the generation did not change")


if __name__ == "__main__":
    try:
        main()
    except sysgenid.Error as error:
        sys.exit(f"{error}")
