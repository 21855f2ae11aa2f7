# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The log of the background thread, and its end with the interpreter. The thread is native."""

from __future__ import annotations

import atexit
import logging
import sys
import traceback
from datetime import timedelta
from typing import Any

from . import _native
from ._native import Background
from .hooks import HookError, _log_ignored, _name, _running, _stand

__all__ = ["Background", "background"]

_log = logging.getLogger("sysgenid")

_AT_EXIT = 1.0
"""Seconds that a hook has to end when the interpreter exits."""

_last: Background | None = None


def background(
    *,
    tracked: bool = True,
    look_every: float | timedelta = 1.0,
    answer_within: float | timedelta | None = 5.0,
    hook_timeout: float | timedelta | None = 60.0,
) -> Background:
    """Starts a thread that runs the hooks of `after_restore` for each change, and acknowledges it.

    >>> import sysgenid
    >>> with sysgenid.background() as background:
    ...     # ... the program ...
    ...     background.alive
    True

    In asyncio, `async with sysgenid.background():` does not hold up the loop.

    There is one for the process. A further call returns it again, and it stops when each of those
    who called has given it back, by `stop` or at the end of the `with` block. `tracked=False` has
    orchestrators not wait for the hooks. `look_every` is how often a page that notifies nobody is
    looked at, and `answer_within` how long this call may wait for a broker that hangs: the thread
    waits on. `hook_timeout` is the timeout of hooks that have none of their own, which run on a
    thread each; `None` waits for them without end, on one thread.

    - If a hook fails, all others run, the failure goes to the log `sysgenid` and to `error`, and
      the change is **not acknowledged**: orchestrators go on waiting, and name this process. All
      hooks are run again after a tenth of a second, then after twice that, up to half a minute; and
      at once when the generation changes again. A hook that is not done at its timeout has failed:
      the log has its name, and where it hangs.
    - A change that came after a hook was registered, and before this call, is not missed.
    - When an orchestrator asks programs to come to rest before a snapshot (`sysgenid quiesce`), the
      hooks of `before_snapshot` run, and the orchestrator is told when all have succeeded. Those of
      `after_restore` run at the change, or when programs are told to go on and there was none.
    - There need not be a source: one that appears is watched, and counts as a change. A broker that
      has ended is waited for, and what changed meanwhile is told then.
    - It ends with the interpreter, whichever way that ends; a hook that is running then has a
      second.
    - A **forked child** has no such thread, and the call starts one there: to have one in each
      child, say `os.register_at_fork(after_in_child=sysgenid.background)` before the fork. A change
      between the fork and the call is not missed: the hooks run for it. With multiprocessing's
      spawn, call it in the child.

    Hooks run in that thread, while the others go on with what they were at, in the old generation:
    what must not be used in between belongs in a `Guarded`. A thread that never lets go of the
    interpreter's lock, in C code, keeps them from running.

    Raises `RuntimeError` if one runs that was started with another `tracked` or `look_every`.
    """
    global _last
    _stand()
    _last = _native.start_background(
        tracked=tracked,
        look_every=look_every,
        answer_within=answer_within,
        hook_timeout=hook_timeout,
        report=_report,
    )
    return _last


def _report(event: str, generation: int, detail: Any) -> None:
    """Called by the thread when something has happened."""
    if event in ("handled", "resting"):
        _log_ignored(detail)
    elif event in ("failed", "not resting"):
        missed = f"generation {generation} is not handled"
        if event == "not resting":
            missed = "the process is not at rest before a snapshot"
        failures = detail.failures if isinstance(detail, HookError) else ((None, detail),)
        for hook, failure in failures:
            _log.error(
                "%s: %s failed; it is tried again%s",
                missed,
                "the acknowledgement" if hook is None else _name(hook),
                _where_it_hangs(hook) if isinstance(failure, TimeoutError) else "",
                exc_info=failure,
            )
    elif event == "lost":
        _log.warning("restores are not seen until the broker is there again")
    else:
        _log.info("watching the broker again")


def _where_it_hangs(hook: Any) -> str:
    frames = sys._current_frames()
    for thread, running in list(_running.items()):
        if running is hook and thread in frames:
            return ". It is here:\n" + "".join(traceback.format_stack(frames[thread])).rstrip()
    return ""


async def _enter(background: Background) -> Background:
    return background


async def _exit(background: Background) -> None:
    from ._tasks import in_thread

    await in_thread(background.stop)


@atexit.register
def _at_exit() -> None:
    if _last is not None:
        _last._stop_for_all(_AT_EXIT)
