# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What type checkers know of the package. It is checked and never run: mypy and pyright refuse a
comment that ignores an error where there is none."""

from __future__ import annotations

from typing import Literal

import sysgenid
from sysgenid import random, testing
from typing_extensions import assert_type


def values() -> None:
    key = sysgenid.Guarded(lambda: bytearray(32), wipe=bytearray.clear)
    assert_type(key.get(), bytearray)
    assert_type(key.use(len), int)

    @sysgenid.cached
    def token(user: str, *, length: int = 8) -> bytes:
        return sysgenid.entropy(length)

    assert_type(token("ann", length=16), bytes)
    token(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(random.choice([1, 2]), int)
    assert_type(random.random(), float)


def hooks() -> None:
    def close(name: str, *, hard: bool = False) -> int:
        return len(name)

    sysgenid.register_before_snapshot(close, "a", hard=True)
    sysgenid.register_after_restore(close, "a")
    sysgenid.register_before_snapshot(close, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sysgenid.register_after_restore(close)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def sources(status: sysgenid.Status) -> None:
    assert_type(status.kind, Literal["device", "broker", "page-file", "vmclock", "vmgenid"])
    assert_type(status.dialect, Literal["v5", "v6"] | None)


def tests() -> None:
    assert_type(testing.fork(int, "ff", base=16), int)
    testing.fork(len, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
