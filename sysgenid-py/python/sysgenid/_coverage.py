# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What of this process's generators is covered, in words."""

from __future__ import annotations

import gc
import os
import random as _stdlib
import sys
from typing import Any, NamedTuple

from sysgenid import _numpy, _others, _seeds
from sysgenid._generator import Core, Random
from sysgenid._native import protection, verify
from sysgenid.errors import Error

#: These need no source.
KERNELS = "sysgenid.entropy, os.urandom, secrets, random.SystemRandom, uuid.uuid4"

_ONLY_FORKS = (
    "a generator with a seed, that is sure to be protected from forks only: no source that works"
    " shows restores, so clones draw the same numbers"
)
_CALL_PROTECT = "call sysgenid.random.protect()"
_WHEN_HOOKS_RUN = (
    "seeded anew when hooks run, as sysgenid.background() runs them, and in forked children; what"
    " is drawn between a change and that may be a clone's"
)

#: Modules that have generators, and what to do about them.
_KNOWN = {
    "torch": "has a generator with a fixed seed: sysgenid.random.cover('torch', reseed=lambda:"
    " torch.manual_seed(int.from_bytes(sysgenid.entropy(8), 'little')), when_imported='torch')",
    "faker": "has a random.Random that all its providers share: sysgenid.random.cover('faker',"
    " reseed=lambda: faker.Faker.seed(sysgenid.entropy(32)), when_imported='faker')",
    "uuid_utils": "draws from a generator in its memory that nothing can seed: use uuid.uuid4",
    "cryptography": "its wheels have an OpenSSL of their own, which nothing can seed: make keys of"
    " sysgenid.entropy(32), as X25519PrivateKey.from_private_bytes takes them",
}

#: How many generators are named.
_NAMED = 5


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

    renewed: int
    """How many generators that the program had seeded draw from a new seed: see `protect`."""

    def __str__(self) -> str:
        if self.problem is None:
            lines = [f"Restores are seen by {self.source}, and forks."]
        else:
            lines = [f"Only forks are sure to be seen: {self.problem}"]
        for title, what in ("Covered:", self.covered), ("Not covered:", self.uncovered):
            lines += ["", title] + [f"  {name}: {text}" for name, text in what.items()]
        if self.renewed:
            lines += [
                "",
                f"Generators with a seed of the program's that were renewed: {self.renewed}",
            ]
        return "\n".join(lines)


def of_this_process(*, is_protected: bool, numpy_waits: bool) -> Coverage:
    """See `coverage`."""
    covered = {
        KERNELS: "the kernel's numbers. CRIU before 4.2 copies what glibc 2.41 and later keep of"
        " them in the process: there take sysgenid.entropy, of which nothing is kept",
        "sysgenid.random": "its functions and its Random; each number is checked after the draw",
    }
    uncovered: dict[str, str] = {}
    for parts in (
        _of_random(is_protected),
        _of_numpy(numpy_waits),
        _of_the_standard_library(is_protected),
        _of_multiprocessing(),
        _of_others(),
        _of_private_generators(),
    ):
        covered |= parts[0]
        uncovered |= parts[1]
    problem = source = None
    try:
        verify()
        source = protection().sources[0][1]
    except Error as error:
        problem = error
        for name in [name for name in covered if name != KERNELS]:
            del covered[name]
            uncovered[name] = _ONLY_FORKS
    uncovered["hash(str)"] = (
        "its secret is fixed when the interpreter starts: clones have it in common"
    )
    uncovered["libraries in C"] = (
        "whatever generators they have: sysgenid.random.cover() takes a function that seeds them"
    )
    return Coverage(source, problem, covered, uncovered, _seeds.renewed)


_Parts = tuple[dict[str, str], dict[str, str]]


def _of_random(is_protected: bool) -> _Parts:
    if not is_protected:
        return {}, {"random, tempfile, multiprocessing": _CALL_PROTECT}
    covered = {
        "random": "its functions; each number is checked after it was drawn",
        "tempfile, multiprocessing": "their random names",
    }
    return covered, {
        "random, getrandbits": "if they were imported by name before protect(): they draw from the"
        " same state, but do not look. It is new as soon as any other function of the module was"
        " called"
    }


def _of_numpy(is_waiting: bool) -> _Parts:
    name = _numpy.MODULE
    if not _numpy.is_loaded():
        if is_waiting:
            return {name: "not imported yet, and covered when it is"}, {}
        return {}, {name: _CALL_PROTECT}
    if not _numpy.is_supported():
        return {}, {name: "older than numpy 2: draw from sysgenid.random"}
    if not _numpy.is_covered():
        return {}, {name: _CALL_PROTECT}
    covered = (
        "its functions and generators; a call that a change overtakes is made again. What was made"
        " or imported by name before protect() is checked at the start of each call only"
    )
    uncovered = "made by hand, or imported by name before protect(): use numpy.random.default_rng()"
    return {name: covered}, {"numpy.random.RandomState(...)": uncovered}


def _of_the_standard_library(is_protected: bool) -> _Parts:
    covered, uncovered = {}, {}
    if "_ssl" in sys.modules:
        if is_protected:
            covered["ssl"] = f"OpenSSL's generator is {_WHEN_HOOKS_RUN}"
        else:
            uncovered["ssl"] = (
                "OpenSSL has a generator of its own, which it does not seed anew after a restore:"
                f" {_CALL_PROTECT}"
            )
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        made = [name for name in ("uuid1", "uuid6") if hasattr(uuid, name)]
        uncovered[", ".join(f"uuid.{name}" for name in made)] = (
            "made of the time and of the machine's address, and clones may have both in common: use"
            " uuid4"
        )
        if hasattr(uuid, "uuid7"):
            text = "the time and the kernel's numbers. Its counter starts anew when hooks run"
            covered["uuid.uuid7"] = text if is_protected else "the time and the kernel's numbers"
        if hasattr(uuid, "uuid8"):
            where = covered if is_protected else uncovered
            where["uuid.uuid8"] = (
                "what is not given to it is drawn from random" if is_protected else _CALL_PROTECT
            )
    for name in tuple(uncovered):
        if name in _others.failed:
            uncovered[name] = _failure(name)
    for name in tuple(covered):
        if name in _others.failed:
            del covered[name]
            uncovered[name] = _failure(name)
    return covered, uncovered


def _of_multiprocessing() -> _Parts:
    loaded: Any = sys.modules.get("multiprocessing")
    if loaded is None:
        return {}, {}
    method = loaded.get_start_method(allow_none=True) or loaded.get_all_start_methods()[0]
    name = f"multiprocessing, {method}"
    if os.environ.get("SYSGENID_PROTECT", "0") not in ("", "0"):
        return {name: "its children protect themselves when they start"}, {}
    if method == "fork":
        return {name: "its children are seen to be others. Those of the other methods are not"}, {}
    text = "its children are new interpreters: start the program with SYSGENID_PROTECT=1"
    return {}, {name: text}


def _of_others() -> _Parts:
    covered, uncovered = {}, {}
    for name, other in _others.added.items():
        if name in _others.failed:
            uncovered[name] = _failure(name)
        elif other.is_there():
            covered[name] = _WHEN_HOOKS_RUN
        else:
            covered[name] = "not imported yet, and seeded anew when it is and hooks run"
    for name, remedy in _KNOWN.items():
        if name in sys.modules and name not in _others.added:
            uncovered[name] = remedy
    return covered, uncovered


def _failure(name: str) -> str:
    return f"was not seeded anew the last time: {_others.failed[name]!r}"


def _of_private_generators() -> _Parts:
    found = _private_generators()
    if not found:
        return {}, {}
    names = _names_of(found)
    named = f", {', '.join(names)} among them" if names else ""
    return {}, {
        "random.Random(...)": f"{len(found)} that the program or a library has made{named}: many"
        " are meant to repeat. Where they are not, use sysgenid.random.Random"
    }


def _private_generators() -> list[Any]:
    hidden: Any = _stdlib._inst
    others = (_stdlib.SystemRandom, Random, Core)

    def is_one(kind: type) -> bool:
        return type.__subclasscheck__(_stdlib.Random, kind) and not any(
            type.__subclasscheck__(other, kind) for other in others
        )

    kinds: dict[type, bool] = {}
    generators = []
    for found in gc.get_objects():
        # An object may lie about its `__class__`, and run code to do so.
        kind = type(found)
        if kind not in kinds:
            kinds[kind] = is_one(kind)
        if kinds[kind] and found is not hidden:
            generators.append(found)
    return generators


def _names_of(found: list[Any]) -> list[str]:
    """Where some of them are in modules."""
    wanted = {id(generator) for generator in found}
    names = []
    for module, loaded in tuple(sys.modules.items()):
        contents = getattr(loaded, "__dict__", None)
        for name, value in tuple(contents.items()) if type(contents) is dict else ():
            if id(value) in wanted:
                wanted.discard(id(value))
                names.append(f"{module}.{name}")
                if len(names) == _NAMED:
                    return names
    return names
