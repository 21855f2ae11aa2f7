# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Drawing random numbers that no clone draws, beside those that Python draws anyway."""

from __future__ import annotations

import os
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from timeit import Timer

from bounds import Bounds, Side
from support import Broker

#: Draws in a row, because a loop costs as much as a draw, and how often they are done.
ROW, REPEATED = 32, 1000


def side(draw: Callable[..., object], arguments: str = "") -> Side:
    """The time of one draw, in nanoseconds. The function is a local variable."""
    row = "\n".join([f"draw({arguments})"] * ROW)
    timer = Timer(row, setup="draw = value", globals={"value": draw})
    return lambda: timer.timeit(REPEATED) / (ROW * REPEATED) * 1e9


def main() -> int:
    bounds = Bounds()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "served")
        os.environ["SYSGENID_SOURCE"] = broker.source
        # Not before: the process reads that variable once, and the import draws.
        import sysgenid.random

        # The module's functions are the methods of such a generator.
        stock = random.Random()
        sysgenid.random.protect()
        assert random.random.__self__ is not stock  # type: ignore[attr-defined]

        bounds.ratio(
            "protected `random.random()` to the stock one",
            1.4,
            side(random.random),
            side(stock.random),
        )
        bounds.ratio(
            "protected `random.getrandbits(64)` to the stock one",
            None,
            side(random.getrandbits, "64"),
            side(stock.getrandbits, "64"),
        )
        bounds.ratio(
            "protected `random.randint(1, 6)` to the stock one",
            None,
            side(random.randint, "1, 6"),
            side(stock.randint, "1, 6"),
        )
        own = sysgenid.random.Random()
        bounds.times(
            "draw a random number in Python",
            {
                "random.random()": side(stock.random),
                "sysgenid protected random.random()": side(random.random),
                "sysgenid.random.Random().random()": side(own.random),
                "random.SystemRandom().random()": side(random.SystemRandom().random),
            },
        )
        broker.stop()
    return bounds.verdict()


if __name__ == "__main__":
    sys.exit(main())
