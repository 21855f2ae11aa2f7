# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A key that is kept in memory is never used in another generation than it was made in, nor in a
forked child.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python guard_cached_secret.py
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger, three times
"""

from __future__ import annotations

import hashlib
import hmac
import sys
import time

import sysgenid

KEYS, PATIENCE = 4, 60.0  # an example ends


class TicketKey:
    """A key and its public name, as the tickets of TLS sessions have."""

    def __init__(self) -> None:
        self.generation = sysgenid.generation()
        self.name = sysgenid.entropy(8).hex()
        self.secret = bytearray(sysgenid.entropy(32))

    def wipe(self) -> None:
        """Called when nobody uses an old one any more."""
        self.secret[:] = bytes(len(self.secret))

    def seal(self) -> tuple[int, str, str]:
        """A ticket, and which key it is of."""
        seal = hmac.new(self.secret, b"ticket", hashlib.sha256).hexdigest()
        return self.generation, self.name, seal


def main() -> None:
    """Seals tickets. Each is whole: of one key, and no change was seen while it was made."""
    sysgenid.verify()  # without a source no restore is seen
    key = sysgenid.Guarded(TicketKey, wipe=TicketKey.wipe)
    sysgenid.before_snapshot(key.forget)
    names: list[str] = []
    end = time.monotonic() + PATIENCE
    while len(names) < KEYS:
        if time.monotonic() > end:
            sys.exit("the generation did not change often enough")
        generation, name, _ticket = key.use(TicketKey.seal)
        if name not in names:
            names.append(name)
            print(f"generation {generation}: key {name}", flush=True)
        time.sleep(0.01)  # until the next request


if __name__ == "__main__":
    try:
        main()
    except sysgenid.Error as error:
        sys.exit(f"{error}")
