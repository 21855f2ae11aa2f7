# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Reading the generation, beside the best that Python has for a mapped counter."""

from __future__ import annotations

import mmap
import sys
import tempfile
from pathlib import Path
from timeit import Timer

import sysgenid
from bounds import Bounds, Side
from support import Broker

#: Loads in a row, because a loop costs as much as a load, and how often they are done.
ROW, REPEATED = 32, 2000


def main() -> int:
    bounds = Bounds()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(Path(folder) / "served")
        probe = sysgenid.Probe(broker.source)
        with (
            open(broker.folder / "page", "rb") as page,
            mmap.mmap(page.fileno(), 4096, prot=mmap.PROT_READ) as mapped,
        ):
            view = memoryview(mapped).cast("I")
            assert view[0] == probe.generation == memoryview(probe)[0]
            measure(bounds, probe, view)
            view.release()
        broker.stop()
    return bounds.verdict()


def measure(bounds: Bounds, probe: sysgenid.Probe, view: memoryview) -> None:
    def side(statement: str, value: object) -> Side:
        """The time of one, in nanoseconds. What it is done with is a local variable."""
        row = "\n".join([statement] * ROW)
        timer = Timer(row, setup="it = value", globals={"value": value})
        return lambda: timer.timeit(REPEATED) / (ROW * REPEATED) * 1e9

    best = side("it[0]", view)
    ours = side("it.generation", probe)
    bounds.ratio('`probe.generation` to `memoryview(mmap).cast("I")[0]`', 1.02, ours, best)
    bounds.times(
        "read the generation in Python",
        {
            'memoryview(mmap).cast("I")[0]': best,
            "sysgenid probe.generation": ours,
            "sysgenid memoryview(probe)[0]": side("it[0]", memoryview(probe)),
            "sysgenid.generation()": side("it()", sysgenid.generation),
            "sysgenid uniqueness.is_current()": side("it()", sysgenid.uniqueness().is_current),
        },
    )


if __name__ == "__main__":
    sys.exit(main())
