# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The same for a forked process, and for a program that is told by a broker."""

from __future__ import annotations

import subprocess
import sys

import sessions
from sysgenid.pytest_plugin import Fork
from sysgenid.testing import Broker


def test_a_forked_process_has_another_token(sysgenid_fork: Fork) -> None:
    before = sessions.token()
    assert sysgenid_fork(sessions.token) != before
    assert sessions.token() == before


def test_a_program_waits_for_the_change(sysgenid_broker: Broker) -> None:
    program = (
        "import sysgenid; w = sysgenid.Watcher(); print(flush=True); print(w.wait(60).generation)"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None
        assert waiting.stdout.readline()
        assert sysgenid_broker.trigger() == 1
        assert int(waiting.stdout.readline()) == 1
