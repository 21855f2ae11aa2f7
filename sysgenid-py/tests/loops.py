# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The event loops that there are, and how a test runs in one."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from support import patient

T = TypeVar("T")

Factory = Callable[[], asyncio.AbstractEventLoop]

#: By name. Of uvloop, where it is installed.
FACTORIES: dict[str, Factory] = {"asyncio": asyncio.new_event_loop}
if importlib.util.find_spec("uvloop") is not None:
    import uvloop

    FACTORIES["uvloop"] = uvloop.new_event_loop


def run(factory: Factory, main: Coroutine[Any, Any, T], timeout: float = 30) -> T:
    """Runs `main` in a loop of its own, which ends with nothing left to do."""
    loop = factory()
    try:
        return loop.run_until_complete(asyncio.wait_for(main, patient(timeout)))
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
