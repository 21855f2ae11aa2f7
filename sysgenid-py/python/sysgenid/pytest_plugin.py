# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The fixtures for pytest, which finds them by itself where this package is installed.

`-p no:sysgenid` leaves them out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sysgenid._native import uniqueness
from sysgenid.testing import Broker, Restores

__all__ = ["sysgenid_broker", "sysgenid_restores"]


@pytest.fixture
def sysgenid_restores() -> Restores:
    """Plays restores in the process of the test, by `sysgenid_restores.restore()`.

    See `sysgenid.testing.Restores`.
    """
    return Restores()


@pytest.fixture
def sysgenid_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """A broker for this test alone, changed by `sysgenid_broker.trigger()`.

    SYSGENID_SOURCE names it during the test, for all that the test opens without a path and for the
    programs that it starts. See `sysgenid.testing.Broker`.
    """
    # A process looks for its sources once. Not now that the variable names what ends with the test.
    uniqueness()
    with Broker() as broker:
        monkeypatch.setenv("SYSGENID_SOURCE", os.fspath(broker.path))
        yield broker
