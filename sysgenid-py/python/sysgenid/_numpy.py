# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Which of numpy's generators are guarded, when there is a numpy. This package never imports it."""

from __future__ import annotations

import gc
import sys
from typing import Any

from sysgenid import _numpy_kinds as kinds

MODULE = "numpy.random"

#: What stands for what of numpy's, for each place where it is looked for by its name.
_replaced: list[tuple[Any, str, Any, Any]] = []


def is_loaded() -> bool:
    return MODULE in sys.modules


def is_covered() -> bool:
    return bool(_replaced)


def is_supported() -> bool:
    """Bit generators keep their seed sequence since numpy 2."""
    return int(sys.modules["numpy"].__version__.partition(".")[0]) >= 2


def cover() -> None:
    """Guards the generator behind the functions of `numpy.random`, and the other ones that will be
    made and have been made, as far as the garbage collector knows them.
    """
    numpy: Any = sys.modules[MODULE]
    legacy = numpy.mtrand._rand
    kind = kinds.bit_generator(_original(numpy, "MT19937"))
    if type(legacy._bit_generator) is _original(numpy, "MT19937"):
        _replace_legacy(legacy, kind)
    if type(legacy._bit_generator) is kind:
        legacy._bit_generator.lock.look(True)
    bit_generators = {it: kinds.bit_generator(it) for it in _bit_generators(numpy)}
    generator = _original(numpy, "Generator")
    if not is_covered():
        _replace_names(numpy, legacy, bit_generators, generator)
    _replace_in_generators(generator, bit_generators)


def uncover() -> None:
    """Takes it back, but for the generators that are guarded: nothing tells them from others."""
    if not is_covered():
        return
    numpy: Any = sys.modules[MODULE]
    legacy = numpy.mtrand._rand._bit_generator
    if isinstance(legacy, kinds.Guarded):
        # Who waits for this lock would not know of another.
        legacy._guard.look(False)
    while _replaced:
        owner, name, original, ours = _replaced.pop()
        if getattr(owner, name) is ours:
            setattr(owner, name, original)


def _original(numpy: Any, name: str) -> Any:
    for owner, replaced, original, _ in _replaced:
        if owner is numpy and replaced == name:
            return original
    return getattr(numpy, name)


def _bit_generators(numpy: Any) -> list[Any]:
    return [_original(numpy, name) for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")]


def _replace(owner: Any, name: str, ours: Any) -> None:
    _replaced.append((owner, name, getattr(owner, name), ours))
    setattr(owner, name, ours)


def _replace_names(numpy: Any, legacy: Any, bit_generators: dict[Any, Any], generator: Any) -> None:
    """What is imported or looked up from now on makes generators that are guarded.

    `default_rng` looks for its bit generator in its module, also where it was imported by name.
    What is unpickled looks for both.
    """
    own, pickled = sys.modules[f"{MODULE}._generator"], sys.modules[f"{MODULE}._pickle"]
    for base, kind in bit_generators.items():
        _replace(numpy, base.__name__, kind)
    _replace(own, "PCG64", bit_generators[own.PCG64])
    kind = kinds.generator(generator)
    _replace(numpy, "Generator", kind)
    _replace(numpy, "default_rng", kinds.default_rng(numpy.default_rng, kind))
    _replace(pickled, "Generator", kind)
    name = "__bit_generator_ctor"
    _replace(pickled, name, kinds.unpickling(getattr(pickled, name), bit_generators))
    for name in numpy.mtrand.__all__:
        function = getattr(numpy, name)
        if name not in ("seed", "get_state", "set_state", "RandomState"):
            _replace(numpy, name, kinds.function(name, function, legacy))


# Other threads draw meanwhile. So a bit generator is replaced with its lock held, because numpy
# keeps none for who draws; and its lock is used on, because others wait for it.


def _replace_legacy(legacy: Any, kind: Any) -> None:
    lock = legacy._bit_generator.lock
    with lock:
        state = legacy.get_state(legacy=False)
        new = kind(lock=lock)
        sys.modules[MODULE].set_bit_generator(new)
        legacy.set_state(state)
        # Who has set it is not known.
        new._is_chosen = False


def _replace_in_generators(generator: Any, bit_generators: dict[Any, Any]) -> None:
    """Not with weak references, which numpy's objects do not have."""
    replaced: dict[int, Any] = {}
    for found in gc.get_objects():
        # An object may lie about its `__class__`, and run code to do so.
        if not type.__subclasscheck__(generator, type(found)):
            continue
        old: Any = generator.bit_generator.__get__(found)
        kind = bit_generators.get(type(old))
        if kind is None:
            continue
        with old.lock:
            if id(old) not in replaced:
                new = kind(lock=old.lock)
                new.__setstate__(old.__getstate__())
                new._is_chosen = False
                # With the old one, so that it keeps its id meanwhile.
                replaced[id(old)] = new, old
            # Not by the object's own class, which may be the program's and want other arguments.
            generator.__init__(found, replaced[id(old)][0])
