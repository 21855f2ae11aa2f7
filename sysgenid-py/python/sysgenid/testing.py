# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Restores that a test plays, for programs that use this package.

For pytest both are fixtures, which the package brings along: `sysgenid_restores` and
`sysgenid_broker`.

>>> import sysgenid
>>> from sysgenid.testing import Restores
>>> restores = Restores()
>>> before = sysgenid.uniqueness()
>>> restores.restore()
>>> before.is_current()
False
"""

from __future__ import annotations

from sysgenid._native import Broker, assume_restored

__all__ = ["Broker", "Restores"]


class Restores:
    """Plays restores in this process: what it guards, caches and seeds is old afterwards.

    `sysgenid.uniqueness()`, `Guarded`, `cached` and the generators of `sysgenid.random` see it, in
    every thread of the process. `sysgenid.generation()` stays the same, and neither watchers nor
    hooks notice: that takes a `Broker`.
    """

    def restore(self) -> None:
        """Plays a restore. A fork looks the same from inside, but for the process's id."""
        assume_restored()
