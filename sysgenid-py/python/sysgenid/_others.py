# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Generators that are seeded anew when something has changed, because no draw of theirs can be
checked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from sysgenid._functions import is_async
from sysgenid._native import entropy, refuse_deferred

if TYPE_CHECKING:
    from collections.abc import Callable


class Other(NamedTuple):
    """A generator of others."""

    reseed: Callable[[], object]
    when_imported: str | None

    def is_there(self) -> bool:
        """Whether there is anything to seed."""
        return self.when_imported is None or self.when_imported in sys.modules


#: Those of the program.
added: dict[str, Other] = {}

#: Why one of them was not seeded the last time.
failed: dict[str, Exception] = {}


def add(name: str, reseed: Callable[[], object], when_imported: str | None) -> None:
    """See `cover`."""
    if not callable(reseed):
        raise TypeError("reseed is a function without arguments")
    if is_async(reseed):
        raise TypeError("reseed is an ordinary function: a coroutine would not run")
    added[name] = Other(reseed, when_imported)


def reseed_all(*, own: bool) -> None:
    """Seeds them all, and raises what failed first. `own`: those of the standard library, too."""
    first = None
    for name, other in [*(_OWN.items() if own else ()), *added.items()]:
        if not other.is_there():
            continue
        try:
            refuse_deferred(other.reseed(), "reseed")
            failed.pop(name, None)
        except Exception as error:
            failed[name] = error
            first = first or error
    if first is not None:
        raise first


def _reseed_openssl() -> None:
    # The primary generator takes this in, and new bytes of the kernel's as well; those of the
    # threads follow it at their next number. An estimate of 0 has it take the kernel's in any case.
    sys.modules["_ssl"].RAND_add(entropy(32), 0.0)


def _forget_last_uuid() -> None:
    """Within a millisecond, `uuid7` of Python 3.14 counts on from the number that it drew last."""
    uuid: Any = sys.modules["uuid"]
    if hasattr(uuid, "uuid7"):
        uuid._last_timestamp_v7 = None


_OWN = {"ssl": Other(_reseed_openssl, "_ssl"), "uuid": Other(_forget_last_uuid, "uuid")}
