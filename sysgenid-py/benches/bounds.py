# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the benches share: bounds, as ratios of one run.

As in the Rust benches: the two sides take turns, and the median of the rounds counts. Beside it
stands the interval that holds the true median with a confidence of 95 %, from the order of the
rounds alone.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

#: Rounds in which the two sides take turns.
ROUNDS = 101

#: How far from the middle of so many sorted rounds the interval reaches.
REACH = 10

#: Names the file to which results are appended. Without it they are only printed.
RESULTS = "SYSGENID_BENCH_RESULTS"

#: Gives how long something took. The unit is the caller's.
Side = Callable[[], float]


class Measured(NamedTuple):
    """The median of the rounds, and its interval."""

    median: float
    interval: tuple[float, float]

    @classmethod
    def of(cls, rounds: Sequence[float]) -> Measured:
        ordered = sorted(rounds)
        middle = len(ordered) // 2
        reach = min(REACH, middle)
        return cls(ordered[middle], (ordered[middle - reach], ordered[middle + reach]))


class Bounds:
    """Bounds that were looked at, and those that were broken."""

    def __init__(self) -> None:
        #: With `--test`, everything is done once, to see that it runs, and nothing is bounded.
        self.measured = "--test" not in sys.argv[1:]
        self._broken = 0

    def ratio(self, name: str, at_most: float | None, over: Side, under: Side) -> None:
        """How many times as long `over` takes as `under`."""
        rounds = self._turns(over, under)
        if self.measured:
            ratios = [above / below for above, below in rounds]
            self._report(name, at_most, Measured.of(ratios), "times")

    def difference(
        self, name: str, at_most: float | None, over: Side, under: Side, unit: str
    ) -> None:
        """How much longer `over` takes than `under`."""
        rounds = self._turns(over, under)
        if self.measured:
            differences = [above - below for above, below in rounds]
            self._report(name, at_most, Measured.of(differences), unit)

    def times(self, group: str, sides: dict[str, Side]) -> None:
        """How many nanoseconds each side takes, for the charts: nothing of it is bounded."""
        rounds: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(ROUNDS if self.measured else 1):
            for name, side in sides.items():
                rounds[name].append(side())
        if self.measured:
            for name, times in rounds.items():
                median, interval = Measured.of(times)
                print(f"{group}: {name}: {median:.1f} ns")
                self._write(time=name, group=group, median=median, interval=interval)

    def fact(self, name: str, value: str) -> None:
        """Something that a reader of the numbers must know."""
        print(f"{name}: {value}")
        self._write(fact=name, value=value)

    def verdict(self) -> int:
        """The exit code: a failure if a bound was broken."""
        return int(self._broken > 0)

    def _turns(self, over: Side, under: Side) -> list[tuple[float, float]]:
        """Both in turn. Who begins changes from round to round."""
        rounds = []
        for number in range(ROUNDS if self.measured else 1):
            if number % 2 == 0:
                first = over()
                rounds.append((first, under()))
            else:
                first = under()
                rounds.append((over(), first))
        return rounds

    def _report(self, name: str, at_most: float | None, measured: Measured, unit: str) -> None:
        kept = at_most is None or measured.median <= at_most
        limit = None if at_most is None else f"at most {at_most} {unit}"
        verdict = "no bound" if limit is None else "bound kept" if kept else "bound BROKEN"
        print(f"{verdict}: {name}: {measured.median:.3f} {unit}, {limit or 'none'}")
        self._write(
            bound=name,
            limit=limit,
            unit=unit,
            measured=measured.median,
            interval=measured.interval,
            kept=kept,
        )
        self._broken += not kept

    @staticmethod
    def _write(**line: object) -> None:
        path = os.environ.get(RESULTS)
        if path is not None:
            with open(path, "a") as file:
                print(json.dumps(line), file=file)
