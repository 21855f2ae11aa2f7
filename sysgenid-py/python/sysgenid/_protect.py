# SPDX-License-Identifier: Apache-2.0 OR MIT
from __future__ import annotations

import _random
import random as _stdlib
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Literal

from sysgenid import _coverage, _forks, _numpy, _others, _seeds, _unprotected, hooks
from sysgenid._coverage import Coverage
from sysgenid._fork_lock import Lock
from sysgenid._generator import SHORTCUTS, Random, guard
from sysgenid._imports import WhenImported
from sysgenid._native import GuardedDraws, verify

_lock = Lock()

# The generator in C behind the functions of `random`, once there was a call of `protect`.
_draws: GuardedDraws | None = None
_originals: dict[str, Any] = {}
_is_protected = False
_is_watching = False
_when_imported = {
    _numpy.MODULE: WhenImported(_numpy.MODULE, lambda: _cover_numpy()),
    "tempfile": WhenImported("tempfile", lambda: _cover_tempfile()),
}


def protect(
    *, require_source: bool = True, seeded: Literal["warn", "renew", "keep"] = "warn"
) -> Coverage:
    """Protects the generators that a Python program draws from without choosing one.

    - The functions of the module `random`: their hidden generator becomes a
      `sysgenid.random.Random`, where it is. So those that other modules have imported by name are
      protected, too.
    - The random names of `tempfile`, which `multiprocessing` uses as well.
    - numpy 2, now or when it is imported: the functions of `numpy.random`, and its generators,
      those that were made before, too. Not those that `gc.freeze` has hidden.
    - OpenSSL's generator behind `ssl`, and the counter of `uuid.uuid7`: they are seeded anew when
      hooks run, as `sysgenid.background()` runs them, and in forked children.

    No state is touched: after `random.seed(42)` the same numbers are drawn as without this, until
    the first change. Call it **before** the snapshot is taken. In a clone it protects from what is
    yet to come; there `random.seed()` seeds anew, and so does `sysgenid.assume_restored()`.

    `seeded` says what becomes at a change of a generator that the program has seeded since, with a
    number or a state:

    - "warn": it draws from a new seed, and a `SeedRenewedWarning` names the first one.
    - "renew": the same without a warning. `coverage().renewed` counts them.
    - "keep": it goes on with its numbers, which clones draw, too.

    Returns what is covered and what is not, as `coverage` does; `print` shows it. A second call
    covers what could not be found before, and does no harm; its `seeded` is the one that counts.

    Raises the error of `sysgenid.verify`, and does nothing, if restores may not be seen:
    `AbsentError` if there is no source, `LostError` if its broker has ended. With
    `require_source=False` it then protects from forks, and gives an `UnprotectedWarning` unless
    there was one before.

    >>> from sysgenid import random
    >>> "random" in random.protect().covered
    True
    >>> random.unprotect()
    """
    global _is_protected
    if seeded not in _seeds.MODES:
        raise ValueError('seeded is "warn", "renew" or "keep"')
    if require_source:
        verify()
    # Before the lock, because it may wait for another thread that imports it.
    if _numpy.is_loaded():
        import_module(_numpy.MODULE)
    with _lock:
        _seeds.mode = seeded
        _cover_random()
        for module, cover_it in (("tempfile", _cover_tempfile), (_numpy.MODULE, _cover_numpy)):
            if module in sys.modules:
                cover_it()
            else:
                _when_imported[module].install()
        _is_protected = True
        _watch()
    protected = coverage()
    if protected.problem is not None:
        _unprotected.warn(stacklevel=3)
    return protected


def unprotect() -> None:
    """Takes back what `protect` did. The states stay as they are.

    What was imported by name from `random` and `numpy.random` while they were protected stays
    protected, and so do the generators of numpy's that were made meanwhile. So does what `cover`
    was called for.
    """
    global _is_protected
    with _lock:
        _uncover_random()
        for waiting in _when_imported.values():
            waiting.remove()
        _uncover_tempfile()
        _numpy.uncover()
        _is_protected = False
        _watch()


def cover(name: str, *, reseed: Callable[[], object], when_imported: str | None = None) -> None:
    """Has a generator that this package does not know seeded anew after each change.

    `reseed` is called without arguments when hooks run, as `sysgenid.background()` runs them, and
    in each forked child. With `when_imported` it is not called before the module of that name is
    imported. A second call with a `name` replaces the first.

    >>> import sysgenid
    >>> def reseed_torch() -> None:
    ...     import torch
    ...     torch.manual_seed(int.from_bytes(sysgenid.entropy(8), "little"))
    >>> sysgenid.random.cover("torch", reseed=reseed_torch, when_imported="torch")
    >>> sysgenid.random.coverage().covered["torch"]
    'not imported yet, and seeded anew when it is and hooks run'
    >>> sysgenid.random.uncover("torch")

    If `reseed` raises, the change is not acknowledged, as if a hook of `after_restore` failed; in a
    forked child the exception is written to standard error. `coverage` shows it in both cases.

    What is **not** promised: that no number is drawn between a change and the call. Only a check of
    each draw does that, as `sysgenid.random.Random` makes it.

    Raises `TypeError` for a coroutine function.
    """
    with _lock:
        _others.add(name, reseed, when_imported)
        _watch()


def uncover(name: str) -> None:
    """Takes back what `cover` did. Does nothing if there was no such call."""
    with _lock:
        _others.added.pop(name, None)
        _others.failed.pop(name, None)
        _watch()


def coverage() -> Coverage:
    """Tells what is protected now, and what this process has loaded that is not, with remedies.

    It asks the source as `sysgenid.verify` does, and looks at each object that the garbage
    collector knows: not for a hot path.

    >>> from sysgenid import random
    >>> sorted(random.coverage().covered)[-1]  # without `protect`: what takes the kernel's numbers
    'sysgenid.random'
    """
    return _coverage.of_this_process(
        is_protected=_is_protected and isinstance(_hidden(), Random),
        numpy_waits=_when_imported[_numpy.MODULE].is_installed(),
    )


def _watch() -> None:
    """Has the hook called if there is anything to do in it. It stays where it is in the order."""
    global _is_watching
    is_needed = _is_protected or bool(_others.added)
    if is_needed and not _is_watching:
        hooks.register_after_restore(_after_restore)
    elif _is_watching and not is_needed:
        hooks.unregister(_after_restore)
    _is_watching = is_needed


def _after_restore() -> None:
    """What watching adds: the state is new before anybody draws who does not look."""
    if _is_protected and _draws is not None:
        _draws.epoch()
    _others.reseed_all(own=_is_protected)


def _in_child() -> None:
    _others.reseed_all(own=_is_protected)


_forks.in_child.append(_in_child)


def _hidden() -> Any:
    """The generator behind the functions of `random`."""
    return _stdlib._inst


def _cover_random() -> None:
    global _draws
    hidden: Any = _hidden()
    kind = type(hidden)
    if kind is _stdlib.Random:
        if _draws is None:
            # What lies below the methods of `random.Random`, in C. It stays when the class changes.
            _draws = GuardedDraws(super(_stdlib.Random, hidden), _seeds.at_change("random"))
        # The state is used on.
        _draws.adopt()
        # Another thread that draws meanwhile finds the one or the other.
        guard(hidden, _draws, Random, kept=hidden.gauss_next)
        hidden.__class__ = Random
        hidden.__dict__.pop("gauss_next", None)
    elif kind is not Random:
        return
    # By themselves: another thread may have forked this process between the two.
    for name in SHORTCUTS:
        original = getattr(_random.Random, name).__get__(hidden)
        if getattr(_stdlib, name) == original:
            _originals[name] = original
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
    with _lock:
        names: Any = sys.modules["tempfile"]._RandomNameSequence
        if "rng" not in _originals:
            _originals["rng"] = names.rng
            generator = Random()
            # One for all sequences of names, also for those that exist.
            names.rng = property(lambda self: generator)


def _uncover_tempfile() -> None:
    if "rng" in _originals:
        names: Any = sys.modules["tempfile"]._RandomNameSequence
        names.rng = _originals.pop("rng")


def _cover_numpy() -> None:
    with _lock:
        if _numpy.is_supported():
            _numpy.cover()
