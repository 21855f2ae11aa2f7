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

import sysgenid._interpreter  # noqa: F401 - first: it refuses subinterpreters
from sysgenid import _forks as _forks
from sysgenid._native import (
    Change,
    Changes,
    Guarded,
    Orchestrator,
    Probe,
    Protection,
    Settled,
    Status,
    Straggler,
    Uniqueness,
    Watcher,
    WatcherCounts,
    __version__,
    assume_restored,
    entropy,
    generation,
    init,
    protection,
    refresh,
    status,
    trigger,
    uniqueness,
    verify,
)
from sysgenid.errors import (
    AbsentError,
    BrokenError,
    CallError,
    DeniedError,
    EntropyError,
    Error,
    ForkedError,
    LostError,
    MissingError,
    OutdatedError,
    ReentrantError,
    StaleError,
    TimedOutError,
    UnprotectedWarning,
    UnsettledError,
    UnsupportedError,
    WrongKindError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sysgenid import aio as aio
    from sysgenid import hooks as hooks
    from sysgenid import random as random
    from sysgenid import testing as testing
    from sysgenid._background import Background, background
    from sysgenid._source import configure
    from sysgenid.caching import cached, cached_property
    from sysgenid.hooks import (
        Hook,
        HookError,
        after_restore,
        before_snapshot,
        register_after_restore,
        register_before_snapshot,
        run_after_restore,
        run_before_snapshot,
        snapshot,
    )

# Imported when they are asked for, so that those who ask for none pay for none.
_MODULES = ("aio", "hooks", "random", "testing")
_HOMES = {
    "Background": "_background",
    "Hook": "hooks",
    "HookError": "hooks",
    "after_restore": "hooks",
    "background": "_background",
    "before_snapshot": "hooks",
    "cached": "caching",
    "cached_property": "caching",
    "configure": "_source",
    "register_after_restore": "hooks",
    "register_before_snapshot": "hooks",
    "run_after_restore": "hooks",
    "run_before_snapshot": "hooks",
    "snapshot": "hooks",
}

__all__ = [
    "AbsentError",
    "Background",
    "BrokenError",
    "CallError",
    "Change",
    "Changes",
    "DeniedError",
    "EntropyError",
    "Error",
    "ForkedError",
    "Guarded",
    "Hook",
    "HookError",
    "LostError",
    "MissingError",
    "Orchestrator",
    "OutdatedError",
    "Probe",
    "Protection",
    "ReentrantError",
    "Settled",
    "StaleError",
    "Status",
    "Straggler",
    "TimedOutError",
    "Uniqueness",
    "UnprotectedWarning",
    "UnsettledError",
    "UnsupportedError",
    "Watcher",
    "WatcherCounts",
    "WrongKindError",
    "__version__",
    "after_restore",
    "aio",
    "assume_restored",
    "background",
    "before_snapshot",
    "cached",
    "cached_property",
    "configure",
    "entropy",
    "generation",
    "hooks",
    "init",
    "protection",
    "random",
    "refresh",
    "register_after_restore",
    "register_before_snapshot",
    "run_after_restore",
    "run_before_snapshot",
    "snapshot",
    "status",
    "testing",
    "trigger",
    "uniqueness",
    "verify",
]


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"sysgenid.{name}")
    if name in _HOMES:
        found: object = getattr(import_module(f"sysgenid.{_HOMES[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'sysgenid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
