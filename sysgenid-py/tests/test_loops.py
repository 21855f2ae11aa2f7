# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Other loops, by the descriptor."""

from __future__ import annotations

import importlib.util
import select
import selectors
import threading

import pytest
import sysgenid
import telling
from support import Trigger, patient


def test_select_and_poll(trigger: Trigger) -> None:
    with sysgenid.Watcher() as watcher:
        assert select.select([watcher], [], [], 0) == ([], [], [])
        trigger()
        assert select.select([watcher], [], [], patient(10)) == ([watcher], [], [])
        poll = select.poll()
        poll.register(watcher, select.POLLIN)
        assert poll.poll(0) == [(watcher.fileno(), select.POLLIN)]
        telling.acknowledge(watcher)
        assert poll.poll(0) == []


@pytest.mark.parametrize(
    "selector", [selectors.EpollSelector, selectors.PollSelector, selectors.SelectSelector]
)
def test_selectors(selector: type[selectors.BaseSelector], trigger: Trigger) -> None:
    with sysgenid.Watcher() as watcher, selector() as loop:
        loop.register(watcher, selectors.EVENT_READ)
        assert loop.select(0) == []
        for _ in range(3):
            timer = threading.Timer(0.01, trigger)
            timer.start()
            ((key, events),) = loop.select(patient(10))
            assert (key.fileobj, events) == (watcher, selectors.EVENT_READ)
            timer.join()
            assert watcher.try_changed() is not None
            telling.acknowledge(watcher)


def test_edge_triggered_epoll(trigger: Trigger) -> None:
    with sysgenid.Watcher() as watcher, select.epoll() as epoll:
        epoll.register(watcher, select.EPOLLIN | select.EPOLLET)
        for _ in range(3):
            generation = trigger()
            assert epoll.poll(patient(10)) == [(watcher.fileno(), select.EPOLLIN)]
            assert telling.told(watcher) == generation
            telling.acknowledge(watcher)


if importlib.util.find_spec("trio") is not None:
    import trio

    def test_trio(trigger: Trigger) -> None:
        async def change() -> None:
            await trio.to_thread.run_sync(trigger)

        async def main() -> None:
            with sysgenid.Watcher() as watcher, trio.fail_after(patient(20)):
                for _ in range(3):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(change)
                        await trio.lowlevel.wait_readable(watcher)
                    assert watcher.try_changed() is not None
                    telling.acknowledge(watcher)

        trio.run(main)
