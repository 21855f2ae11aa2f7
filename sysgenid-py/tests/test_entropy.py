# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Seeds come from the kernel by the system call, and a source that appears later is noticed."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import support
import sysgenid

#: A C library whose generator is in the memory of the process, and was copied.
COPIED = """
#include <stddef.h>
#include <string.h>
#include <sys/types.h>
ssize_t getrandom(void *bytes, size_t length, unsigned flags) {
    memset(bytes, 7, length);
    return length;
}
"""

DRAWS = """
import _random, os, tempfile
import sysgenid
from sysgenid import random
random.protect()
import random as protected
print(os.urandom(16).hex(), _random.Random().random())  # the control
print(sysgenid.entropy(16).hex())
print(random.random(), random.Random().random(), random.Random(None).random())
random.seed()
print(random.random())
protected.seed()
print(protected.random(), next(tempfile._get_candidate_names()))
"""

NUMPY_DRAWS = """
import numpy
print(numpy.random.default_rng().random())
numpy.random.seed()
print(numpy.random.rand())
numpy.random.seed(None)
print(numpy.random.rand())
"""


@pytest.mark.broker_only
def test_no_seed_is_taken_from_the_c_library(tmp_path: Path) -> None:
    source, library = tmp_path / "copied.c", tmp_path / "copied.so"
    source.write_text(COPIED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    program = DRAWS + (NUMPY_DRAWS if importlib.util.find_spec("numpy") else "")

    def draw() -> list[str]:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "LD_PRELOAD": str(library)},
            capture_output=True,
            text=True,
            timeout=support.patient(60),
            check=True,
        )
        return ended.stdout.splitlines()

    first, second = draw(), draw()
    assert first[0] == second[0], "the library is not in use"
    assert first[0].startswith("07" * 16)
    for one, other in zip(first[1:], second[1:], strict=True):
        for a, b in zip(one.split(), other.split(), strict=True):
            assert a != b, (first, second)


def test_entropy_is_public() -> None:
    assert sysgenid.entropy(0) == b""
    assert len(sysgenid.entropy(33)) == 33
    assert sysgenid.entropy(16) != sysgenid.entropy(16)


LATE = """
import os, time, sysgenid
from sysgenid import hooks
page = os.environ["SYSGENID_SOURCE"]
built = iter(range(100))
value = sysgenid.Guarded(lambda: next(built))
cached = sysgenid.cached(lambda: next(built))
assert (value.get(), cached()) == (0, 1)
with open(page + ".new", "wb") as new:
    new.write(bytes(4096))
os.rename(page + ".new", page)
time.sleep(1.2)  # longer than between two looks
assert (value.get(), cached()) == (0, 1), "a use of what is built looked, and is slow"
{look}
assert value.get() > 1, "the source is a change"
assert cached() > 1
assert sysgenid.protection().sources[0][1] == page
"""


@pytest.mark.parametrize(
    "look",
    [
        "sysgenid.Guarded(lambda: 1).get()",
        "sysgenid.cached(lambda: 1)()",
        "sysgenid.random.protect()",
        "sysgenid.random.Random()",
        "sysgenid.run_after_restore()",
        "sysgenid.verify()",
        "sysgenid.protection()",
    ],
)
def test_a_source_that_appears_is_noticed_by_what_is_slow(
    look: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", str(tmp_path / "page"))
    support.run_python(LATE.format(look=look))


def test_hooks_without_a_source_forget_whatever_the_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SYSGENID_SOURCE", "/nonexistent")
    support.run_python(
        """
import sysgenid
built = iter(range(100))
value = sysgenid.Guarded(lambda: next(built))
assert value.get() == 0
sysgenid.run_after_restore(0)
assert value.get() == 1
"""
    )
