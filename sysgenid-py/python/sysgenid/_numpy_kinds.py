# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What stands for numpy's classes and functions.

A generator of numpy's takes the lock of its bit generator for each call that draws, and asks the
bit generator for it when it is made. So a bit generator that has a lock of ours has a check at the
start of each call. A generator of our kind has another at the end, and draws again if something has
changed in between.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

from sysgenid import _seeds
from sysgenid._native import GuardedLock, entropy
from sysgenid.errors import UnsettledError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: How often a call is made, before one is given up across which something changes each time. It
#: lasts longer than what it draws if many threads wait for the interpreter.
_ATTEMPTS = 32

#: Seed sequences that numpy makes of the kernel's numbers have 128 bits.
_LEAST_FRESH = 2**64

_kinds: dict[Any, Any] = {}


class Guarded:
    """What all bit generators have that have a lock of ours."""

    _guard: GuardedLock
    # Whether the program has set the state.
    _is_chosen: bool


class _StandsFor(type):
    """The class of a class that stands for one of numpy's: instances of that are its instances."""

    _base: Any = None

    def __instancecheck__(cls, instance: object) -> bool:
        # Not those that the program has derived.
        base = cls.__dict__.get("_base")
        return isinstance(instance, base) if base else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        base = cls.__dict__.get("_base")
        return issubclass(subclass, base) if base else super().__subclasscheck__(subclass)


def _numpy() -> Any:
    return sys.modules["numpy.random"]


def _fresh() -> Any:
    return _numpy().SeedSequence(int.from_bytes(entropy(32), "little"))


def _is_chosen(seed: Any) -> bool:
    """Whether a program that gives this wants the numbers that it knows of."""
    own = getattr(seed, "entropy", seed)
    return own is not None and not (
        own is not seed and isinstance(own, int) and own >= _LEAST_FRESH
    )


def _name(base: Any, sequence: Any) -> str:
    own = getattr(sequence, "entropy", None)
    seed = "" if own is None else repr(own)
    if len(seed) > 40:
        seed = "..."
    made_by = "default_rng" if base.__name__ == "PCG64" else base.__name__
    return f"numpy.random.{made_by}({seed})"


def bit_generator(base: Any) -> Any:
    """The class of bit generators that is `base` with a lock of ours."""
    if base in _kinds:
        return _kinds[base]

    class Kind(base, Guarded, metaclass=_StandsFor):  # type: ignore[misc]
        _base = base

        def __init__(self, seed: Any = None, *, lock: Any = None, **others: Any) -> None:
            # Philox has others, for a state in place of a seed.
            self._is_chosen = _is_chosen(seed) or bool(others)
            if not self._is_chosen and seed is None:
                # Not by numpy, which asks the C library: see `sysgenid.entropy`.
                seed = _fresh()
            super().__init__(seed, **others)
            lock = lock or threading.RLock()
            # Not the lock of `base`, which the methods of `base` take when they have this one.
            self._guard = GuardedLock(lock, _weakly(self._change))
            # Numpy's own is, since 2.3.
            self._is_reentrant = hasattr(lock, "_is_owned")

        @contextlib.contextmanager
        def _checked(self) -> Iterator[None]:
            """For what may be called by who holds the lock already."""
            if self._is_reentrant:
                with self._guard:
                    yield
            else:
                self._guard.refresh()
                yield

        def _change(self) -> None:
            """After a change, with the lock held."""
            is_chosen = self._is_chosen
            if is_chosen and _seeds.keeps():
                return
            legacy = _numpy().mtrand._rand
            is_legacy = legacy._bit_generator is self
            name = "numpy.random" if is_legacy else _name(base, base.seed_seq.__get__(self))
            self._reseed()
            if is_chosen:
                _seeds.tell_renewed(name)

        def _reseed(self) -> None:
            sequence = _fresh()
            state = base(sequence).state
            super().__setstate__((state, sequence))
            legacy = _numpy().mtrand._rand
            if legacy._bit_generator is self:
                # It forgets the second half of a pair of normal numbers with it.
                legacy.set_state(state)
            self._is_chosen = False

        @property
        def lock(self) -> GuardedLock:
            return self._guard

        @property
        def state(self) -> Any:
            with self._checked():
                return super().state

        @state.setter
        def state(self, state: Any) -> None:
            self._guard.renew(base.state.__set__, self, state)
            self._is_chosen = True

        @property
        def seed_seq(self) -> Any:
            with self._checked():
                return super().seed_seq

        def __setstate__(self, state: Any) -> None:
            self._guard.renew(super().__setstate__, state)
            self._is_chosen = True

        def spawn(self, n_children: int) -> Any:
            with self._checked():
                children = super().spawn(n_children)
                for child in children:
                    child._is_chosen = self._is_chosen
            return children

        def random_raw(self, size: Any = None, output: bool = True) -> Any:
            with self._guard:
                return super().random_raw(size, output)

        if hasattr(base, "jumped"):

            def jumped(self, jumps: int = 1) -> Any:
                with self._checked():
                    copied = super().jumped(jumps)
                    copied._is_chosen = self._is_chosen
                return copied

        def __deepcopy__(self, memo: object) -> Any:
            copied = type(self)()
            copied.__setstate__(self.__getstate__())
            copied._is_chosen = self._is_chosen
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
                        self._is_chosen = True

    _named_as(Kind, base)
    _kinds[base] = Kind
    return Kind


def generator(base: Any) -> Any:
    """The class of generators that is `base` with a check at the end of each call."""
    if base in _kinds:
        return _kinds[base]
    methods: dict[str, Any] = {"_base": base}
    for name in dir(base):
        method = getattr(base, name)
        if not name.startswith("_") and callable(method) and name != "spawn":
            methods[name] = _settled_method(method)
    kind = _StandsFor("Generator", (base,), methods)
    _named_as(kind, base)
    _kinds[base] = kind
    return kind


def _named_as(kind: Any, base: Any) -> None:
    # A state names the class that it belongs to.
    kind.__name__, kind.__qualname__ = base.__name__, base.__qualname__
    kind.__module__, kind.__doc__ = base.__module__, base.__doc__


def _settled_method(method: Any) -> Any:
    @functools.wraps(method)
    def draw(self: Any, *args: Any, **kwargs: Any) -> Any:
        guard = getattr(self._bit_generator, "_guard", None)
        if guard is None:
            return method(self, *args, **kwargs)
        stamp = guard.stamp()
        drawn = method(self, *args, **kwargs)
        if guard.stands(stamp):
            return drawn
        return _draw_again(self._bit_generator, drawn, lambda: method(self, *args, **kwargs))

    return draw


def function(name: str, original: Any, legacy: Any) -> Any:
    """What stands for a function of `numpy.random`."""

    @functools.wraps(original)
    def draw(*args: Any, **kwargs: Any) -> Any:
        guard = getattr(legacy._bit_generator, "_guard", None)
        if guard is None:
            return original(*args, **kwargs)
        stamp = guard.stamp()
        drawn = original(*args, **kwargs)
        if guard.stands(stamp):
            return drawn
        return _draw_again(legacy._bit_generator, drawn, lambda: original(*args, **kwargs))

    draw.__module__, draw.__qualname__ = "numpy.random", name
    return draw


def _draw_again(bits: Guarded, drawn: Any, draw: Callable[[], Any]) -> Any:
    """`drawn` was drawn while something changed."""
    for _ in range(_ATTEMPTS):
        if bits._is_chosen and _seeds.keeps():
            return drawn
        stamp = bits._guard.stamp()
        drawn = draw()
        if bits._guard.stands(stamp):
            return drawn
    raise UnsettledError(
        errno.EAGAIN, f"something changed during each of {_ATTEMPTS} draws; try again"
    )


def default_rng(original: Any, kind: Any) -> Any:
    """What stands for `numpy.random.default_rng`."""

    @functools.wraps(original)
    def default_rng(seed: Any = None) -> Any:
        made = original(seed)
        # A generator that is given comes back as it is.
        return made if made is seed else kind(made.bit_generator)

    return default_rng


def unpickling(original: Any, kinds: dict[Any, Any]) -> Any:
    """What makes the bit generators that are unpickled, whose state is set afterwards."""
    names = {base.__name__: kind for base, kind in kinds.items()}

    @functools.wraps(original)
    def make(bit_generator: Any = "MT19937") -> Any:
        kind = kinds.get(bit_generator) or names.get(bit_generator)
        return original(bit_generator) if kind is None else kind()

    return make


def _weakly(method: Callable[[], None]) -> Callable[[], None]:
    """A bit generator holds its lock, so the lock must not hold the bit generator."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        found = reference()
        if found is not None:
            found()

    return call
