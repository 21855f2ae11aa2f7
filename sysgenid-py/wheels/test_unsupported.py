# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The wheel for other systems: everything can be imported, and nothing succeeds.

It is run where that wheel is installed, and not among the other tests.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from collections.abc import Callable

import pytest
import sysgenid
from sysgenid import random

MODULES = [
    module.name
    for module in pkgutil.iter_modules(sysgenid.__path__, "sysgenid.")
    if module.name != "sysgenid.__main__"
]


def test_it_is_that_wheel() -> None:
    assert sysgenid._native.__file__.endswith("_native.py")


def test_everything_can_be_imported_without_what_other_systems_lack() -> None:
    # What the standard library has loaded knows that it has them.
    lacks = "del os.fork, os.register_at_fork, select.poll, signal.SIGHUP, signal.SIGQUIT"
    program = f"import asyncio, os, pytest, random, select, signal, tempfile; {lacks}; import "
    ended = subprocess.run([sys.executable, "-c", program + ", ".join(MODULES)], check=False)
    assert ended.returncode == 0


def exported() -> dict[str, object]:
    found = {}
    for module in [sysgenid, *map(importlib.import_module, MODULES)]:
        for name in getattr(module, "__all__", ()):
            found[f"{module.__name__}.{name}"] = getattr(module, name)
    return found


def test_every_name_is_there() -> None:
    names = exported()
    assert len(names) > 80
    assert "sysgenid.Watcher" in names


#: What is asked of the package, and of what was made where modules are loaded.
ASKED: dict[str, Callable[[], object]] = {
    "verify": sysgenid.verify,
    "generation": sysgenid.generation,
    "uniqueness": sysgenid.uniqueness,
    "entropy": lambda: sysgenid.entropy(16),
    "protection": sysgenid.protection,
    "Watcher": sysgenid.Watcher,
    "Orchestrator": lambda: sysgenid.Orchestrator(require_watchers=1),
    "Probe": lambda: sysgenid.Probe("/a/path"),
    "Guarded": lambda: sysgenid.Guarded(lambda: 1).get(),
    "Guarded.use": lambda: sysgenid.Guarded(lambda: 1).use(str),
    "cached": lambda: sysgenid.cached(abs)(1),
    "random": random.random,
    "choice": lambda: random.choice([1, 2]),
    "Random": lambda: random.Random().random(),
    "Random, seeded": lambda: random.Random(42).random(),
    "protect": random.protect,
    "restore": lambda: importlib.import_module("sysgenid.testing").restore(),
    "Broker": lambda: importlib.import_module("sysgenid.testing").Broker(),
    "run_after_restore": sysgenid.run_after_restore,
    "run_before_snapshot": sysgenid.run_before_snapshot,
    "background": sysgenid.background,
}


@pytest.mark.parametrize("name", ASKED)
def test_what_is_asked_is_refused(name: str) -> None:
    with pytest.raises(sysgenid.UnsupportedError, match="sysgenid"):
        ASKED[name]()


def test_a_program_declares_what_it_needs() -> None:
    key = sysgenid.Guarded(lambda: b"", wipe=len)
    assert inspect.isclass(sysgenid.Guarded[bytes])

    @sysgenid.cached(maxsize=3)
    def token(user: str) -> str:
        return user

    class Client:
        @sysgenid.cached
        def token(self) -> str:
            return ""

    @sysgenid.after_restore
    def hook(generation: int) -> None:
        raise AssertionError

    assert token.__wrapped__("ann") == "ann"
    for use in key.get, lambda: token("ann"), Client().token:
        with pytest.raises(sysgenid.UnsupportedError):
            use()
    sysgenid.hooks.unregister(hook)


def test_the_command_says_it() -> None:
    for arguments in [], ["serve"]:
        ended = subprocess.run(
            [sys.executable, "-m", "sysgenid", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (ended.stdout, ended.returncode) == ("", 6)
        assert ended.stderr.startswith("sysgenid: this is the wheel")
        assert ended.stderr.count("\n") == 1
