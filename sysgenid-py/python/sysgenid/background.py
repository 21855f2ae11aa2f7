# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A thread that waits for changes, and runs the hooks for them."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import select
import threading
import time
from typing import TYPE_CHECKING

from . import _attempts
from ._native import Watcher
from .errors import Error, LostError, StaleError, TimedOutError
from .hooks import HookError, run_after_restore

if TYPE_CHECKING:
    from datetime import timedelta
    from os import PathLike
    from types import TracebackType

    from typing_extensions import Self

__all__ = ["Background", "watch_in_background"]

_log = logging.getLogger("sysgenid")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
"""Seconds before hooks that failed are run again, the first time and at last."""
_LOOK = 0.1
"""Seconds between looks at the generation during such a pause."""
_AT_EXIT = 1.0
"""Seconds that a hook has to end when the interpreter exits."""


class Background:
    """The thread that `watch_in_background` has started."""

    def __init__(
        self,
        path: str | PathLike[str] | None,
        tracked: bool,
        answer_within: float | timedelta | None,
        inherited: tuple[str, int] | None,
    ) -> None:
        self._watcher = Watcher(path, tracked=tracked, answer_within=answer_within)
        self._asked = (path, tracked)
        self._path = self._watcher.path
        self._generation = self._watcher.generation
        if inherited is not None and inherited[0] == self._path:
            self._generation = inherited[1]
        self._error: BaseException | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._stopping = False
        # Closed, and then None, by the thread.
        self._wake: int | None = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._thread = threading.Thread(target=self._run, name="sysgenid-watch", daemon=True)
            self._thread.start()
        except BaseException:
            self._close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the thread runs. False in a forked child, which has no such thread."""
        return self._process == os.getpid() and self._thread.is_alive()

    @property
    def generation(self) -> int:
        """The generation that was handled last, or that there was at the beginning."""
        return self._generation

    @property
    def path(self) -> str:
        """Where the source is."""
        return self._path

    @property
    def error(self) -> BaseException | None:
        """Why the last change is not handled yet, or the source is not watched.

        A `HookError`, or what the watcher raised; `None` if all is well.
        """
        return self._error

    def stop(self, timeout: float | None = 5.0) -> bool:
        """Stops the thread, and waits until it has ended; `None` waits for ever.

        It stops at once, but for a hook that is running: that goes on to its end. Then the result
        may be False: it has not ended in time, and will when the hook has. If its broker is gone,
        it stops within half a second; if the broker is there and does not answer, within five. A
        change whose hooks have not all succeeded is not acknowledged, and orchestrators no longer
        wait for it.

        To stop twice is fine, and so is to stop in a hook or in a forked child.
        """
        if self._process != os.getpid():
            return True
        with self._lock:
            self._stopping = True
            if self._wake is not None:
                os.eventfd_write(self._wake, 1)
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"generation {self._generation}" if self.alive else "stopped"
        return f"<sysgenid.Background of {self._path}, {state}>"

    def _run(self) -> None:
        try:
            self._watch()
        except BaseException as error:
            self._error = error
            raise  # to threading.excepthook
        finally:
            self._close()

    def _close(self) -> None:
        with self._lock:
            self._watcher.close()
            wake, self._wake = self._wake, None
            if wake is not None:
                os.close(wake)

    def _watch(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping:
            try:
                generation = self._outdated()
                if generation is None:
                    self._sleep()
                    continue
                is_handled = self._handle(generation)
            except Error as error:
                self._report_loss(error)
                is_handled = self._reconnect()
                generation = self._generation
            if is_handled:
                pause = _FIRST_PAUSE
            else:
                self._pause(pause, generation)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _outdated(self) -> int | None:
        generation = self._watcher.try_changed()
        if generation is None and self._watcher.generation != self._generation:
            # It changed between a fork and the opening of the child's own watcher; or it has just
            # changed, and the signal is under way.
            return self._watcher.generation
        return generation

    def _handle(self, generation: int) -> bool:
        try:
            run_after_restore(generation)
        except BaseException as error:
            self._error = error
            _report_hooks(generation, error)
            return False
        with contextlib.suppress(StaleError):  # it moved: told again at once
            self._watcher.acknowledge(generation)
            self._generation = generation
            self._error = None
        return True

    def _reconnect(self) -> bool:
        """Returns whether it is connected. Failures that pass are waited for, until `stop`."""
        given = _attempts.FIRST
        while not self._stopping:
            try:
                self._watcher.reconnect(given)
            except (LostError, TimedOutError) as error:
                self._report_loss(error)
                given = _attempts.after(given, error)
            except Error as error:
                self._report_loss(error)
                return False
            else:
                self._error = None
                _log.info("watching %s again", self._path)
                return True
        return True

    def _report_loss(self, error: Error) -> None:
        is_news = type(error) is not type(self._error)
        self._error = error
        if is_news:
            _log.warning("restores are not seen until it is there again: %s", error)

    def _sleep(self) -> None:
        """Until the watcher has something to tell, or `stop`; without the interpreter's lock."""
        self._poll(None, self._watcher.fileno())

    def _pause(self, seconds: float, generation: int) -> None:
        """Until that time is over, or there is another generation, or `stop`."""
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            self._poll(min(left, _LOOK))
            if self._watcher.generation not in (generation, self._generation):
                return

    def _poll(self, seconds: float | None, *others: int) -> None:
        wake = self._wake
        if wake is not None:  # only this thread closes it
            poll = select.poll()
            for descriptor in (wake, *others):
                poll.register(descriptor, select.POLLIN)
            poll.poll(None if seconds is None else seconds * 1000)

    def _abandon(self) -> None:
        """In a forked child: lets go of the copies of the parent's descriptors."""
        self._lock = threading.Lock()
        self._close()


def _report_hooks(generation: int, error: BaseException) -> None:
    failures = error.failures if isinstance(error, HookError) else ()
    for hook, failure in failures or ((run_after_restore, error),):
        _log.error(
            "generation %d is not handled: %s failed; it is tried again",
            generation,
            getattr(hook, "__qualname__", hook),
            exc_info=failure,
        )


_guard = threading.Lock()
_background: Background | None = None
_inherited: tuple[str, int] | None = None
"""Of the parent's thread: the source, and the generation that was handled at the fork."""


def watch_in_background(
    path: str | PathLike[str] | None = None,
    *,
    tracked: bool = True,
    answer_within: float | timedelta | None = 5.0,
) -> Background:
    """Starts a thread that waits for changes, runs the hooks of `after_restore`, and acknowledges.

    >>> import sysgenid
    >>> with sysgenid.watch_in_background() as background:
    ...     # ... the program ...
    ...     background.alive
    True

    There is one for the process. A second call returns the one that runs; whoever stops it stops it
    for all. `tracked=False` has orchestrators not wait for the hooks, and `answer_within` is how
    long a broker may take to answer while the watcher is opened.

    - If a hook fails, all others run, the failure goes to the log `sysgenid` and to `error`, and
      the change is **not acknowledged**: orchestrators go on waiting, and name this process. All
      hooks are run again after a tenth of a second, then after twice that, up to every five
      seconds; and at once when the generation changes again.
    - A broker that has ended is waited for, as `Watcher.reconnect` does it. What changed meanwhile
      is told then.
    - It ends with the interpreter, whichever way that ends; a hook that is running then has a
      second.
    - A **forked child** has no such thread, and the call starts one there: to have one in each
      child, say `os.register_at_fork(after_in_child=sysgenid.watch_in_background)` before the fork.
      A change between the fork and the call is not missed: the hooks run for it. With
      multiprocessing's spawn, call it in the child.

    Hooks run in that thread, while the others go on with what they were at, in the old generation:
    what must not be used in between belongs in a `Guarded`. A thread that never lets go of the
    interpreter's lock, in C code, keeps them from running.

    Raises as `Watcher`, and `RuntimeError` if one runs that was started with other arguments.
    """
    global _background, _inherited
    with _guard:
        if _background is not None and _background.alive:
            if _background._asked != (path, tracked):
                raise RuntimeError(
                    f"{_background!r} runs already, with other arguments: stop that one first"
                )
            return _background
        _background = Background(path, tracked, answer_within, _inherited)
        _inherited = None
        return _background


@atexit.register
def _at_exit() -> None:
    if _background is not None:
        _background.stop(_AT_EXIT)


def _in_child() -> None:
    global _background, _guard, _inherited
    _guard = threading.Lock()
    background, _background = _background, None
    if background is not None and background._process != os.getpid():
        if background._wake is not None:  # it ran
            _inherited = (background._path, background._generation)
        background._abandon()


os.register_at_fork(after_in_child=_in_child)
