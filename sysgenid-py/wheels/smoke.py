# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What a wheel for another machine must do, in an emulator that has nothing but Python."""

from __future__ import annotations

import platform

import sysgenid
from sysgenid import random, testing


def main() -> None:
    """Has a restore, a fork and a change of a broker."""
    key = sysgenid.Guarded(lambda: sysgenid.entropy(16))
    first = key.get()
    assert key.get() == first
    testing.restore()
    second = key.get()
    assert second != first
    assert testing.fork(key.get) != second
    assert key.get() == second
    with testing.Broker() as broker, sysgenid.Watcher(broker.path) as watcher:
        generation = broker.trigger()
        change = watcher.wait(600)
        assert change.generation == generation == 1
        assert change.acknowledge()
    assert random.Random(1).random() == 0.13436424411240122
    print("works on", platform.machine())


if __name__ == "__main__":
    main()
