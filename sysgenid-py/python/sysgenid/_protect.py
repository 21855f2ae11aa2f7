# SPDX-License-Identifier: Apache-2.0 OR MIT
from __future__ import annotations

import os
import random as _stdlib
import threading
from importlib import import_module
from typing import Any, NamedTuple

from sysgenid import _numpy, _unprotected, hooks
from sysgenid._generator import SHORTCUTS, Random, guard
from sysgenid._native import GuardedDraws, protection, verify
from sysgenid.errors import Error

_lock = threading.RLock()


def _renew_lock() -> None:
    """Another thread of the parent may have held it."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(after_in_child=_renew_lock)

# The generator in C behind the functions of `random`, once there was a call of `protect`.
_draws: GuardedDraws | None = None
_originals: dict[str, Any] = {}
_when_imported = _numpy.WhenImported(lambda: _cover_numpy())


class Coverage(NamedTuple):
    """What is protected in this process. As a string it is a report for people."""

    source: str | None
    """The path of the source that shows restores. `None`: only forks are sure to be seen."""

    problem: Error | None
    """Why restores may not be seen, and what to do about it: the error of `sysgenid.verify`."""

    covered: dict[str, str]
    """What draws nothing a second time, and how far that goes."""

    uncovered: dict[str, str]
    """What may, and what to do instead."""

    def __str__(self) -> str:
        if self.problem is None:
            lines = [f"Restores are seen by {self.source}, and forks."]
        else:
            lines = [f"Only forks are sure to be seen: {self.problem}"]
        for title, what in ("Covered:", self.covered), ("Not covered:", self.uncovered):
            lines += ["", title] + [f"  {name}: {text}" for name, text in what.items()]
        return "\n".join(lines)


def protect(*, require_source: bool = True) -> Coverage:
    """Protects the generators that a Python program draws from without choosing one.

    - The functions of the module `random`: their hidden generator becomes a
      `sysgenid.random.Random`, where it is. So those that other modules have imported by name are
      protected, too.
    - The random names of `tempfile`, which `multiprocessing` uses as well.
    - numpy 2, now or when it is imported: the functions of `numpy.random`, and the generators of
      `numpy.random.default_rng`. Not those that `gc.freeze` has hidden.

    No state is touched: after `random.seed(42)` the same numbers are drawn as without this, until
    the first change. Call it **before** the snapshot is taken. In a clone it protects from what is
    yet to come; there `random.seed()` seeds anew, and so does `sysgenid.assume_restored()`.

    Returns what is covered and what is not, as `coverage` does; `print` shows it. A second call
    covers what of numpy's has been unpickled since, and does no harm.

    Raises the error of `sysgenid.verify`, and does nothing, if restores may not be seen:
    `AbsentError` if there is no source, `LostError` if its broker has ended. With
    `require_source=False` it then protects from forks, and gives an `UnprotectedWarning` unless
    there was one before.

    >>> from sysgenid import random
    >>> "random" in random.protect().covered
    True
    >>> random.unprotect()
    """
    if require_source:
        verify()
    # Before the lock, because it may wait for another thread that imports it.
    if _numpy.is_loaded():
        import_module(_numpy.MODULE)
    with _lock:
        _cover_random()
        _cover_tempfile()
        hooks.unregister(_after_restore)
        hooks.register_after_restore(_after_restore)
        if _numpy.is_loaded():
            _cover_numpy()
        else:
            _when_imported.install()
    protected = coverage()
    if protected.problem is not None:
        _unprotected.warn(stacklevel=3)
    return protected


def unprotect() -> None:
    """Takes back what `protect` did. The states stay as they are.

    What was imported by name from `random` while it was protected stays protected, and so do the
    generators that `numpy.random.default_rng` has made.
    """
    with _lock:
        _uncover_random()
        _uncover_tempfile()
        hooks.unregister(_after_restore)
        _when_imported.remove()
        _numpy.uncover()


def _after_restore() -> None:
    """What watching adds: the state is new before anybody draws who does not look."""
    if _draws is not None:
        _draws.epoch()


def coverage() -> Coverage:
    """Tells what is protected now, and what cannot be.

    >>> from sysgenid import random
    >>> sorted(random.coverage().covered)  # without `protect`: what takes the kernel's numbers
    ['sysgenid.entropy, os.urandom, secrets, random.SystemRandom, uuid.uuid4', 'sysgenid.random']
    """
    covered, uncovered = dict(_ALWAYS), {}
    if isinstance(_hidden(), Random):
        covered["random"] = "its functions; each number is checked after it was drawn"
        covered["tempfile, multiprocessing"] = "their random names"
        uncovered["random, getrandbits"] = (
            "if they were imported by name before protect(): they draw from the same state, but do"
            " not look. It is new as soon as any other function of the module was called"
        )
    else:
        uncovered["random, tempfile, multiprocessing"] = "call sysgenid.random.protect()"
    numpy, text = _numpy_coverage()
    (covered if numpy else uncovered)["numpy.random"] = text
    problem = None
    source = None
    try:
        verify()
        source = protection().sources[0][1]
    except Error as error:
        problem = error
        for name in [name for name in covered if name != _KERNELS]:
            del covered[name]
            uncovered[name] = _ONLY_FORKS
    return Coverage(source, problem, covered, uncovered | _NEVER)


# These need no source.
_KERNELS = "sysgenid.entropy, os.urandom, secrets, random.SystemRandom, uuid.uuid4"

_ONLY_FORKS = (
    "a generator with a seed, that is sure to be protected from forks only: no source that works"
    " shows restores, so clones draw the same numbers"
)

_ALWAYS = {
    _KERNELS: "the kernel's numbers. CRIU before 4.2 copies what glibc 2.41 and later keep of them"
    " in the process: there take sysgenid.entropy, of which nothing is kept",
    "sysgenid.random": "its functions and its Random; each number is checked after it was drawn",
}

_NEVER = {
    "random.Random(...)": "a generator of somebody's own: use sysgenid.random.Random",
    "numpy.random.RandomState(...), Generator(PCG64(...))": "made by hand: use default_rng",
    "copies": "of a generator of numpy's that was pickled, and of every state that is set again",
    "uuid.uuid1": "made of the time and of the machine's address, and clones may have both in"
    " common: use uuid4",
    "hash(str)": "its secret is fixed when the interpreter starts: clones have it in common",
    "ssl": "OpenSSL has a generator of its own, which it seeds anew after a fork, and not after a"
    " restore",
    "libraries in C": "whatever generators they have",
}


def _numpy_coverage() -> tuple[bool, str]:
    if not _numpy.is_loaded():
        if _when_imported.is_installed():
            return True, "not imported yet, and covered when it is"
        return False, "call sysgenid.random.protect()"
    if not _numpy.is_supported():
        return False, "older than numpy 2: draw from sysgenid.random"
    if not _numpy.is_covered():
        return False, "call sysgenid.random.protect()"
    return True, (
        "its functions, and the generators of default_rng; the check is made at the start of each"
        " call, so numbers of a call that a change interrupts may repeat"
    )


def _hidden() -> Any:
    """The generator behind the functions of `random`."""
    return _stdlib._inst


def _cover_random() -> None:
    global _draws
    hidden: Any = _hidden()
    kind = type(hidden)
    if kind is not _stdlib.Random:
        return
    if _draws is None:
        # What lies below the methods of `random.Random`, in C. It stays so when the class changes.
        _draws = GuardedDraws(super(_stdlib.Random, hidden))
    # The state is used on.
    _draws.renew(lambda: None)
    # Another thread that draws meanwhile finds the one or the other.
    guard(hidden, _draws, Random, kept=hidden.gauss_next)
    hidden.__class__ = Random
    hidden.__dict__.pop("gauss_next", None)
    for name in SHORTCUTS:
        _originals[name] = getattr(_stdlib, name)
        setattr(_stdlib, name, getattr(_draws, name))


def _uncover_random() -> None:
    hidden: Any = _hidden()
    kind = type(hidden)
    if kind is not Random:
        return
    hidden.__dict__["gauss_next"] = hidden.gauss_next
    # What draws by the class at this moment, in another thread, still finds what it needs.
    hidden.__class__ = _stdlib.Random
    for name in SHORTCUTS:
        del hidden.__dict__[name]
        if getattr(_stdlib, name) == getattr(_draws, name):
            setattr(_stdlib, name, _originals[name])


def _cover_tempfile() -> None:
    names: Any = _tempfile()._RandomNameSequence
    if "rng" not in _originals:
        _originals["rng"] = names.rng
        generator = Random()
        # One for all sequences of names, also for those that exist.
        names.rng = property(lambda self: generator)


def _uncover_tempfile() -> None:
    if "rng" in _originals:
        names: Any = _tempfile()._RandomNameSequence
        names.rng = _originals.pop("rng")


def _tempfile() -> Any:
    # Not needed to draw a number, and slow to import.
    return import_module("tempfile")


def _cover_numpy() -> None:
    with _lock:
        if _numpy.is_supported():
            _numpy.cover()
