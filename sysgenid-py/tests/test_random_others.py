# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Generators whose draws cannot be checked: OpenSSL's, those of `cover`; what `coverage` names."""

from __future__ import annotations

import os
import random as stdlib
import ssl  # noqa: F401
import sys
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import forking
import pytest
import support
import sysgenid
from sysgenid import _others
from sysgenid import random as safe

pytestmark = pytest.mark.v6_only


@pytest.fixture(autouse=True)
def _uncovered_again() -> Iterator[None]:
    yield
    safe.unprotect()
    for name in list(_others.added):
        safe.uncover(name)


CLONES = """
import ctypes, os, ssl, sys
import sysgenid
from sysgenid import random as safe

def clone(draw):
    # OpenSSL takes a process for a forked child by its id: the first of a namespace has 1 in each.
    reader, writer = os.pipe()
    keeper = os.fork()
    if keeper == 0:
        assert libc.unshare(0x20000000) == 0, os.strerror(ctypes.get_errno())
        pid = os.fork()
        if pid == 0:
            assert os.getpid() == 1
            os.write(writer, draw())
            os._exit(0)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    assert os.waitpid(keeper, 0)[1] == 0
    os.close(writer)
    drawn = os.read(reader, 100)
    os.close(reader)
    return drawn

def restored():
    sysgenid.run_after_restore()
    return ssl.RAND_bytes(16)

def compare():
    ssl.RAND_bytes(16)
    plain = [clone(lambda: ssl.RAND_bytes(16)) for _ in range(2)]
    # A child reseeds, as any does: this one is to be a clone, and not a child.
    safe.protect(require_source=False)
    from sysgenid import _forks
    _forks.in_child.clear()
    unwatched = [clone(lambda: ssl.RAND_bytes(16)) for _ in range(2)]
    watched = [clone(restored) for _ in range(2)]
    return repr((plain[0] == plain[1], unwatched[0] == unwatched[1], watched[0] == watched[1]))

libc = ctypes.CDLL(None, use_errno=True)
assert clone(lambda: compare().encode()) == b"(True, True, False)"
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a namespace of process ids")
@pytest.mark.broker_only
def test_openssl_is_seeded_anew_in_a_clone() -> None:
    support.run_python(CLONES)


def test_openssl_is_seeded_when_hooks_run_and_in_children(monkeypatch: pytest.MonkeyPatch) -> None:
    added: list[tuple[bytes, float]] = []
    monkeypatch.setattr("_ssl.RAND_add", lambda data, entropy: added.append((data, entropy)))
    safe.protect()
    assert "seeded anew when hooks run" in safe.coverage().covered["ssl"]
    for _ in range(2):
        sysgenid.run_after_restore()
    assert [(len(data), entropy) for data, entropy in added] == [(32, 0.0)] * 2
    assert added[0] != added[1]
    assert forking.in_child(lambda: len(added)) == 3
    safe.unprotect()
    sysgenid.run_after_restore()
    assert len(added) == 2
    assert "protect()" in safe.coverage().uncovered["ssl"]


def test_what_is_covered_is_seeded_after_changes_and_in_children(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeded: list[int] = []
    safe.cover("ours", reseed=lambda: seeded.append(os.getpid()))
    assert seeded == [], "nothing has changed yet"
    sysgenid.run_after_restore()
    assert forking.in_child(lambda: seeded[1:] == [os.getpid()])
    assert seeded == [os.getpid()]
    assert "seeded anew" in safe.coverage().covered["ours"]
    # Protection or not makes no difference, and a second call no second registration.
    safe.protect()
    safe.unprotect()
    safe.cover("ours", reseed=lambda: seeded.append(0))
    sysgenid.run_after_restore()
    assert seeded == [os.getpid(), 0]
    safe.uncover("ours")
    safe.uncover("ours")
    sysgenid.run_after_restore()
    assert seeded == [os.getpid(), 0]
    assert "ours" not in safe.coverage().covered | safe.coverage().uncovered


def test_a_module_that_is_not_imported_is_not_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[None] = []
    safe.cover("torch", reseed=lambda: seeded.append(None), when_imported="torch")
    sysgenid.run_after_restore()
    assert seeded == []
    assert "not imported yet" in safe.coverage().covered["torch"]
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    sysgenid.run_after_restore()
    assert seeded == [None]
    assert "not imported yet" not in safe.coverage().covered["torch"]


def test_a_seed_that_fails_leaves_the_change_unhandled(capfd: pytest.CaptureFixture[str]) -> None:
    seeded: list[None] = []
    broken = True

    def fail() -> None:
        if broken:
            raise LookupError("no generator")

    safe.cover("broken", reseed=fail)
    safe.cover("sound", reseed=lambda: seeded.append(None))
    with pytest.raises(sysgenid.HookError, match="no generator"):
        sysgenid.run_after_restore()
    assert seeded == [None], "the others are seeded all the same"
    assert "LookupError" in safe.coverage().uncovered["broken"]
    assert "sound" in safe.coverage().covered
    assert "LookupError" in forking.in_child(lambda: safe.coverage().uncovered["broken"])
    assert "no generator" in capfd.readouterr().err
    broken = False
    sysgenid.run_after_restore()
    assert "broken" in safe.coverage().covered


def test_a_coroutine_is_refused() -> None:
    async def reseed() -> None: ...

    with pytest.raises(TypeError, match="coroutine"):
        safe.cover("ours", reseed=reseed)
    with pytest.raises(TypeError, match="function"):
        safe.cover("ours", reseed=None)  # type: ignore[arg-type]
    safe.cover("ours", reseed=lambda: reseed())
    with pytest.raises(sysgenid.HookError):
        sysgenid.run_after_restore()


def test_children_are_seeded_before_what_the_program_registers() -> None:
    support.run_python(
        "import os, sysgenid\n"
        "order = []\n"
        "os.register_at_fork(after_in_child=lambda: order.append('program'))\n"
        "from sysgenid import random as safe\n"
        "safe.cover('ours', reseed=lambda: order.append('ours'))\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    os._exit(0 if order == ['ours', 'program'] else 1)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )


KNOWN = {
    "torch": "torch.manual_seed",
    "faker": "Faker.seed",
    "uuid_utils": "uuid.uuid4",
    "cryptography": "sysgenid.entropy",
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_loaded_is_named_with_a_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert name not in safe.coverage().uncovered
    monkeypatch.setitem(sys.modules, name, ModuleType(name))
    assert KNOWN[name] in safe.coverage().uncovered[name]
    safe.cover(name, reseed=lambda: None)
    assert name in safe.coverage().covered
    assert name not in safe.coverage().uncovered


private = stdlib.Random(7)


def test_private_generators_are_counted_and_named() -> None:
    mine = [stdlib.Random() for _ in range(3)]
    text = safe.coverage().uncovered["random.Random(...)"]
    assert f"{__name__}.private" in text
    assert "sysgenid.random.Random" in text
    before = int(text.split()[0])
    mine.append(stdlib.Random())
    assert int(safe.coverage().uncovered["random.Random(...)"].split()[0]) == before + 1
    ours = [safe.Random(1), stdlib.SystemRandom()]
    assert int(safe.coverage().uncovered["random.Random(...)"].split()[0]) == before + 1
    del mine, ours


@pytest.mark.parametrize(("method", "is_covered"), [("fork", True), ("spawn", False)])
def test_the_start_method_of_multiprocessing_is_named(
    method: str, is_covered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SYSGENID_PROTECT", raising=False)
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: method)
    name = f"multiprocessing, {method}"
    coverage = safe.coverage()
    assert (name in coverage.covered, name in coverage.uncovered) == (is_covered, not is_covered)
    if not is_covered:
        assert "SYSGENID_PROTECT=1" in coverage.uncovered[name]
    # As Python 3.14 has it unless it is told otherwise.
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none: None)
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["forkserver", "fork"])
    assert "SYSGENID_PROTECT=1" in safe.coverage().uncovered["multiprocessing, forkserver"]
    monkeypatch.setenv("SYSGENID_PROTECT", "1")
    assert "multiprocessing, forkserver" in safe.coverage().covered


def seven() -> Callable[[], uuid.UUID]:
    """As that of Python 3.14, in what counts here."""

    def uuid7() -> uuid.UUID:
        module: Any = uuid
        if module._last_timestamp_v7 is None:
            module._last_timestamp_v7 = 1
            module._last_counter_v7 = int.from_bytes(os.urandom(5), "big")
        else:
            module._last_counter_v7 += 1
        return uuid.UUID(int=module._last_counter_v7)

    return uuid7


def test_uuids_of_later_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(uuid, "uuid7"):
        coverage = safe.coverage()
        assert "uuid.uuid1" in coverage.uncovered
        assert not {"uuid.uuid7", "uuid.uuid8"} & (coverage.covered | coverage.uncovered).keys()
        safe.protect()
        sysgenid.run_after_restore()
        assert not hasattr(uuid, "_last_timestamp_v7")
        for name in ("uuid6", "uuid7", "uuid8"):
            monkeypatch.setattr(uuid, name, seven(), raising=False)
        monkeypatch.setattr(uuid, "_last_timestamp_v7", None, raising=False)
        monkeypatch.setattr(uuid, "_last_counter_v7", 0, raising=False)
    safe.protect()
    coverage = safe.coverage()
    assert {"uuid.uuid7", "uuid.uuid8"} <= coverage.covered.keys()
    assert "uuid4" in coverage.uncovered["uuid.uuid1, uuid.uuid6"]
    module: Any = uuid
    module.uuid7()
    assert module._last_timestamp_v7 is not None
    sysgenid.run_after_restore()
    assert module._last_timestamp_v7 is None, "the next one draws a new counter"
    assert safe.coverage().covered["uuid.uuid7"].endswith("when hooks run")
    safe.unprotect()
    assert "uuid.uuid8" in safe.coverage().uncovered
