# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A cached key is checked against the mapped counter before each use and after it, by hand.

One check costs one load from memory, and no system call. `sysgenid.Guarded` does the same with
less to get wrong, and sees forks as well: guard_cached_secret.py.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python check_mapped_counter.py
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger, three times
"""

from __future__ import annotations

import hashlib
import hmac
import sys
import time

import sysgenid

CHANGES, PATIENCE = 3, 60.0  # an example ends


def main() -> None:
    """Signs requests with a key that no clone has used."""
    probe = sysgenid.Probe()
    built, key, changes = probe.generation, sysgenid.entropy(32), 0
    print(f"generation {built}: a key", flush=True)
    end = time.monotonic() + PATIENCE
    while changes < CHANGES:
        if time.monotonic() > end:
            sys.exit("the generation did not change often enough")
        signature = hmac.new(key, b"request", hashlib.sha256)
        # After the use, and so before the next one: equality is all that a generation is for.
        if probe.generation != built:
            built, key, changes = probe.generation, sysgenid.entropy(32), changes + 1
            print(f"generation {built}: another key; the request is signed again", flush=True)
            continue
        _ = signature  # ... it leaves here ...
        time.sleep(0.001)


if __name__ == "__main__":
    try:
        main()
    except sysgenid.Error as error:
        sys.exit(f"{error}")
