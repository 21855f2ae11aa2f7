# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What becomes of generators behind `protect` that the program has seeded on purpose."""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

MODES = ("warn", "renew", "keep")


class SeedRenewedWarning(RuntimeWarning):
    """A generator that was seeded on purpose draws from a new seed, because something has changed.

    It is given once in a process, and names the generator. `coverage().renewed` counts them all.
    """

    __module__ = "sysgenid.random"


mode: Literal["warn", "renew", "keep"] = "warn"
renewed = 0
_counted = itertools.count(1)
_has_warned = False


def keeps() -> bool:
    """Whether such a state is used on."""
    return mode == "keep"


def tell_renewed(name: str) -> None:
    """To be called when it is not, after the generator has a new seed."""
    global renewed, _has_warned
    renewed = next(_counted)
    if mode == "warn" and not _has_warned:
        _has_warned = True
        warnings.warn(
            f"{name} was seeded by the program, and draws from a new seed since the system was"
            ' restored or the process forked; protect(seeded="keep") has it go on with the numbers'
            ' that clones draw, too, and protect(seeded="renew") gives no warning',
            SeedRenewedWarning,
            stacklevel=3,
        )


def at_change(name: str) -> Callable[[bool], bool]:
    """What a `GuardedDraws` calls: see there."""

    def changed(is_renewed: bool) -> bool:
        if not is_renewed:
            return keeps()
        tell_renewed(name)
        return False

    return changed
