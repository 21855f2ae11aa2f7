# SPDX-License-Identifier: Apache-2.0 OR MIT
"""numpy's generators, when there is a numpy. This package never imports it.

A generator of numpy's takes the lock of its bit generator for each call that draws, and asks the
bit generator for it when it is made. So a bit generator that has a lock of ours has a check at the
start of each call.
"""

from __future__ import annotations

import gc
import sys
import threading
import warnings
import weakref
from importlib.abc import Loader, MetaPathFinder
from typing import TYPE_CHECKING, Any

from sysgenid._native import GuardedLock, entropy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

MODULE = "numpy.random"

_kinds: dict[type, type] = {}


def is_loaded() -> bool:
    return MODULE in sys.modules


def is_covered() -> bool:
    return is_loaded() and _generators().PCG64 in _kinds.values()


def is_supported() -> bool:
    """Bit generators keep their seed sequence since numpy 2."""
    return int(sys.modules["numpy"].__version__.partition(".")[0]) >= 2


def cover() -> None:
    """Guards the generator behind the functions of `numpy.random`, and those that `default_rng`
    will make and has made, as far as the garbage collector knows them.
    """
    numpy: Any = sys.modules[MODULE]
    legacy = numpy.mtrand._rand
    kind = _guarded(numpy.MT19937)
    if type(legacy._bit_generator) is numpy.MT19937:
        _replace_legacy(legacy, kind)
    if type(legacy._bit_generator) is kind:
        legacy._bit_generator.lock.look(True)
    kind = _guarded(numpy.PCG64)
    _generators().PCG64 = kind
    _replace_in_generators(numpy.Generator, numpy.PCG64, kind)


def uncover() -> None:
    """Takes it back, but for the generators that are guarded: nothing tells them from others."""
    if not is_covered():
        return
    numpy: Any = sys.modules[MODULE]
    legacy = numpy.mtrand._rand._bit_generator
    if type(legacy) is _guarded(numpy.MT19937):
        # Who waits for this lock would not know of another.
        legacy.lock.look(False)
    _generators().PCG64 = numpy.PCG64


def _generators() -> Any:
    """The module where `default_rng` looks for its bit generator."""
    return sys.modules[f"{MODULE}._generator"]


# Other threads draw meanwhile. So a bit generator is replaced with its lock held, because numpy
# keeps none for who draws; and its lock is used on, because others wait for it.


def _replace_legacy(legacy: Any, kind: Any) -> None:
    lock = legacy._bit_generator.lock
    with lock:
        state = legacy.get_state(legacy=False)
        sys.modules[MODULE].set_bit_generator(kind(lock=lock))
        legacy.set_state(state)


def _replace_in_generators(generator_type: type, old_kind: type, kind: Any) -> None:
    """Not with weak references, which numpy's objects do not have."""
    replaced: dict[int, Any] = {}
    for found in gc.get_objects():
        # An object may lie about its `__class__`, and run code to do so.
        if not issubclass(type(found), generator_type):
            continue
        old: Any = found.bit_generator
        kind_of_old = type(old)
        if kind_of_old is not old_kind:
            continue
        with old.lock:
            if id(old) not in replaced:
                new = kind(lock=old.lock)
                new.__setstate__(old.__getstate__())
                # With the old one, so that it keeps its id meanwhile.
                replaced[id(old)] = new, old
            found.__init__(replaced[id(old)][0])


def _guarded(base: Any) -> Any:
    """The class of bit generators that is `base` with a lock of ours."""
    if base in _kinds:
        return _kinds[base]
    numpy: Any = sys.modules[MODULE]

    def _fresh() -> Any:
        return numpy.SeedSequence(int.from_bytes(entropy(32), "little"))

    class Guarded(base):  # type: ignore[misc]
        def __init__(self, seed: Any = None, *, lock: Any = None) -> None:
            # Not by numpy, which asks the C library: see `sysgenid.entropy`.
            super().__init__(_fresh() if seed is None else seed)
            # Not the lock of `base`, which the methods of `base` take when they have this one.
            self._guard = GuardedLock(lock or threading.RLock(), _weakly(self._reseed))

        def _reseed(self) -> None:
            sequence = _fresh()
            state = base(sequence).state
            super().__setstate__((state, sequence))
            legacy = numpy.mtrand._rand
            if legacy._bit_generator is self:
                # It forgets the second half of a pair of normal numbers with it.
                legacy.set_state(state)

        @property
        def lock(self) -> GuardedLock:
            return self._guard

        @property
        def state(self) -> Any:
            self._guard.refresh()
            return super().state

        @state.setter
        def state(self, state: Any) -> None:
            self._guard.renew(base.state.__set__, self, state)

        @property
        def seed_seq(self) -> Any:
            self._guard.refresh()
            return super().seed_seq

        def spawn(self, n_children: int) -> Any:
            self._guard.refresh()
            return super().spawn(n_children)

        def random_raw(self, size: Any = None, output: bool = True) -> Any:
            with self._guard:
                return super().random_raw(size, output)

        def __deepcopy__(self, memo: object) -> Any:
            copied = type(self)()
            copied.__setstate__(self.__getstate__())
            return copied

        def __reduce__(self) -> Any:
            # To be read where there is no sysgenid, too.
            constructor, _, state = super().__reduce__()
            return constructor, (base,), state

        if hasattr(base, "_legacy_seeding"):

            def _legacy_seeding(self, seed: Any) -> None:
                with self._guard:
                    if seed is None:
                        self._guard.renew(self._reseed)
                    else:
                        self._guard.renew(super()._legacy_seeding, seed)

    # A state names the class that it belongs to.
    Guarded.__name__ = Guarded.__qualname__ = base.__name__
    Guarded.__module__ = base.__module__
    Guarded.__doc__ = base.__doc__
    _kinds[base] = Guarded
    return Guarded


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A bit generator holds its lock, so the lock must not hold the bit generator."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call


class WhenImported(MetaPathFinder):
    """Calls `then` once numpy's generators are there."""

    def __init__(self, then: Callable[[], None]) -> None:
        self._then = then

    def install(self) -> None:
        if not self.is_installed():
            sys.meta_path.insert(0, self)

    def is_installed(self) -> bool:
        return self in sys.meta_path

    def remove(self) -> None:
        if self.is_installed():
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != MODULE:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _ThenLoader(spec.loader, self)
                return spec
        return None

    def loaded(self) -> None:
        self.remove()
        try:
            self._then()
        except Exception as error:
            # The import is not to blame.
            warnings.warn(
                f"numpy's generators are not protected: {error}", RuntimeWarning, stacklevel=2
            )


class _ThenLoader(Loader):
    def __init__(self, loader: Loader, whom: WhenImported) -> None:
        self._loader = loader
        self._whom = whom

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Nobody is to find this one in the module.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._whom.loaded()
