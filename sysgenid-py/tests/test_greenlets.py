# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Waits in a program whose threads are greenlets: they stop none of the others."""

from __future__ import annotations

import pytest
import support

pytestmark = [pytest.mark.needs("gevent"), pytest.mark.broker_only]

PATCHED = """
from gevent import monkey
monkey.patch_all()
import os, gevent, sysgenid

source = os.environ["SYSGENID_SOURCE"]
ticks = 0

def tick():
    global ticks
    while True:
        ticks += 1
        gevent.sleep(0.001)

gevent.spawn(tick)

def ticking():
    "Lets the others run until the clock has ticked some more."
    seen = ticks
    while ticks < seen + 5:
        gevent.sleep(0.001)

def begun(function, *arguments):
    greenlet = gevent.spawn(function, *arguments)
    ticking()
    assert not greenlet.dead, greenlet.exception
    return greenlet
"""

PROGRAMS = {
    "wait": """
with sysgenid.Watcher() as watcher, sysgenid.Orchestrator(source) as orchestrator:
    # Two with one watcher.
    waiting = [begun(watcher.wait, 20) for _ in range(2)]
    generation = orchestrator.trigger()
    changes = [it.get(timeout=20) for it in waiting]
    assert [change.generation for change in changes] == [generation] * 2
    assert changes[0].acknowledge()
    orchestrator.acknowledge(generation)
    told = begun(next, watcher.changes())
    generation = orchestrator.trigger()
    assert told.get(timeout=20).generation == generation
    orchestrator.acknowledge(generation)
    begun(orchestrator.wait, 20).kill()
""",
    "timeout": """
with sysgenid.Watcher() as watcher:
    for ending, timeout in (sysgenid.TimedOutError, 0.05), (gevent.Timeout, 20):
        waiting = gevent.spawn(gevent.with_timeout, 0.1, watcher.wait, timeout)
        ticking()
        try:
            waiting.get(timeout=20)
        except ending:
            pass
        else:
            raise SystemExit("it did not end")
""",
    "close": """
watcher = sysgenid.Watcher()
waiting = begun(watcher.wait, 20)
watcher.close()
try:
    waiting.get(timeout=20)
except ValueError as error:
    assert "closed" in str(error)
else:
    raise SystemExit("it waits on")
""",
    "settle": """
with sysgenid.Watcher() as watcher, sysgenid.Orchestrator(source) as orchestrator:
    orchestrator.trigger()
    settling = begun(orchestrator.settle, 20)
    assert watcher.wait(20).acknowledge()
    assert settling.get(timeout=20).watchers >= 1
""",
    "reconnect": """
from sysgenid.testing import Broker
with Broker() as broker, sysgenid.Watcher(broker.path) as watcher:
    broker.stop()
    connecting = begun(watcher.reconnect, 20)
    broker.restart()
    connecting.get(timeout=20)
    assert watcher.try_changed() is None
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_others_run_during(name: str) -> None:
    support.run_python(PATCHED + PROGRAMS[name])
