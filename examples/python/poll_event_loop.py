# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An event loop answers requests, and replaces its token when the system was restored: then the
watcher's descriptor is readable.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python poll_event_loop.py; each line typed is a request,
and the end of the input (Ctrl-D) ends the loop
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger
"""

from __future__ import annotations

import os
import select
import sys

import sysgenid

PATIENCE = 60.0  # an example ends


def main() -> None:
    """Waits for requests and for changes."""
    token = sysgenid.entropy(8).hex()
    poll = select.poll()
    poll.register(sys.stdin, select.POLLIN)
    with sysgenid.Watcher() as watcher:
        poll.register(watcher, select.POLLIN)
        print(f"ready at generation {watcher.generation}", flush=True)
        while readable := {descriptor for descriptor, _ in poll.poll(PATIENCE * 1000)}:
            # The change before the request, so that no request is answered with the old token. A
            # wake-up may be spurious: this call decides.
            change = watcher.try_changed()
            if change is not None:
                token = sysgenid.entropy(8).hex()
                if not change.acknowledge():
                    continue  # it moved again: readable still
                print(f"generation {change.generation}: token replaced", flush=True)
            if sys.stdin.fileno() in readable:
                if not os.read(sys.stdin.fileno(), 512):
                    return
                print(f"answered with token {token}", flush=True)
    sys.exit("nothing happened")


if __name__ == "__main__":
    try:
        main()
    except sysgenid.Error as error:
        sys.exit(f"{error}")
