# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Notice that this virtual machine or container was restored or cloned from a snapshot, and rebuild
what must be unique.

>>> import sysgenid
>>> sysgenid.verify()  # without a source no restore is seen
>>> before = sysgenid.uniqueness()
>>> # ... the system may be restored here, or the process forked ...
>>> before == sysgenid.uniqueness()
True
"""

from __future__ import annotations

from sysgenid._native import (
    Orchestrator,
    Probe,
    Status,
    Straggler,
    Uniqueness,
    Watcher,
    WatcherCounts,
    __version__,
    generation,
    refresh,
    sources,
    status,
    uniqueness,
    verify,
)
from sysgenid.errors import (
    AbsentError,
    BrokenError,
    DeniedError,
    EntropyError,
    Error,
    ForkedError,
    LostError,
    OutdatedError,
    ReentrantError,
    StaleError,
    TimedOutError,
    UnsettledError,
    UnsupportedError,
    WrongKindError,
)

__all__ = [
    "AbsentError",
    "BrokenError",
    "DeniedError",
    "EntropyError",
    "Error",
    "ForkedError",
    "LostError",
    "Orchestrator",
    "OutdatedError",
    "Probe",
    "ReentrantError",
    "StaleError",
    "Status",
    "Straggler",
    "TimedOutError",
    "Uniqueness",
    "UnsettledError",
    "UnsupportedError",
    "Watcher",
    "WatcherCounts",
    "WrongKindError",
    "__version__",
    "generation",
    "refresh",
    "sources",
    "status",
    "uniqueness",
    "verify",
]
