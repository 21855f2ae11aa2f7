# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Values and results that a restore makes outdated, beside those that last."""

from __future__ import annotations

import functools
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from timeit import Timer

from bounds import Bounds, Side
from support import Broker

#: Calls in a row, because a loop costs as much as a call, and how often they are done.
ROW, REPEATED = 32, 1000

#: Objects that are made and dropped.
NUMBER = 100_000


class Plain:
    """As much as a guard has, and nothing that it does."""

    __slots__ = ("__weakref__", "build", "built", "wipe")

    def __init__(self, build: object, *, wipe: object = None) -> None:
        self.build = build
        self.wipe = wipe
        self.built = None


def side(call: str, value: object) -> Side:
    """The time of one call, in nanoseconds. The function is a local variable."""
    timer = Timer("\n".join([call] * ROW), setup="it = value", globals={"value": value})
    return lambda: timer.timeit(REPEATED) / (ROW * REPEATED) * 1e9


def dropped(make: Callable[[Callable[[], int]], object], order: str) -> Side:
    """The time to make and drop as many, in seconds."""

    def measure() -> float:
        begun = time.perf_counter()
        made = [make(int) for _ in range(NUMBER)]
        if order == "oldest first":
            made.reverse()
        elif order == "in any order":
            random.Random(1).shuffle(made)
        while made:
            made.pop()
        return time.perf_counter() - begun

    return measure


def main() -> int:
    bounds = Bounds()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "served")
        os.environ["SYSGENID_SOURCE"] = broker.source
        # Not before: the process reads that variable once.
        import sysgenid

        guard = sysgenid.Guarded(lambda: "value")
        bounds.difference(
            "`Guarded.get()`", 80, side("it()", guard.get), lambda: 0.0, "nanoseconds"
        )

        def double(number: int) -> int:
            return 2 * number

        kept = functools.cache(double)
        guarded = sysgenid.cached(double)
        bounds.ratio(
            "`sysgenid.cached` to `functools.cache`",
            2,
            side("it(1)", guarded),
            side("it(1)", kept),
        )
        for order in "newest first", "oldest first", "in any order":
            bounds.ratio(
                f"100,000 guards made and dropped {order}, to plain objects",
                2,
                dropped(sysgenid.Guarded, order),
                dropped(Plain, order),
            )
        bounds.times(
            "use a value that is up to date in Python",
            {
                "a call of a function": side("it()", lambda: "value"),
                "sysgenid Guarded.get()": side("it()", guard.get),
                "sysgenid Guarded.use(len)": side("it(len)", guard.use),
                "functools.cache": side("it(1)", kept),
                "sysgenid.cached": side("it(1)", guarded),
            },
        )
        broker.stop()
    return bounds.verdict()


if __name__ == "__main__":
    sys.exit(main())
