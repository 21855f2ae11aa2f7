# SPDX-License-Identifier: Apache-2.0 OR MIT
"""From a change of the generation to the task that awaits it, beside an eventfd in the same loop.

As the Rust bench `wake` does it. An eventfd is written by whoever has something to tell, and a
change is asked of a broker. So the eventfd gets a server as well, of the same shape: a process that
takes the same request from a socket of the same kind, stores a counter in a mapped page, writes the
eventfd and answers. Who asks looks at that page without a pause, and the time begins when the
counter has changed there. It ends in the task, which leaves the time in memory that is shared.

Who looks has a processor to itself. The servers and the loops share another.
"""

from __future__ import annotations

import asyncio
import functools
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bounds import Bounds, Side
from support import Broker

#: Changes that one side takes in its turn. Their median counts.
CHANGES = 51
#: Nanoseconds before each, so that the server and the loop have nothing to do and sleep.
PAUSE = 50_000
#: Nanoseconds after which a task is not waited for any more.
LOST = 10_000_000_000

#: A request for a change, in the userspace driver's protocol: version, operation, sequence, a
#: watcher, two arguments, and eight bytes that are not used.
REQUEST = struct.pack("<HHIQII8x", 2, 7, 1, 0, 0, 0)


def map_numbers(path: Path, *, write: bool) -> memoryview:
    """A page as numbers of 32 bits."""
    access = mmap.PROT_READ | (mmap.PROT_WRITE if write else 0)
    with open(path, "r+b" if write else "rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 4096, prot=access)).cast("I")


class Resumed:
    """When a task was resumed last, and how often it was, in memory that processes share."""

    def __init__(self, path: Path, *, write: bool = False) -> None:
        numbers = map_numbers(path, write=write)
        self._times = numbers
        self._at = numbers[2:4].cast("B").cast("Q")

    def now(self) -> None:
        self._at[0] = time.monotonic_ns()
        # Last: who sees the count sees the time.
        self._times[0] += 1

    @property
    def times(self) -> int:
        return self._times[0]

    @property
    def at(self) -> int:
        return self._at[0]


class Subject:
    """A server, and a process with a loop in which a task awaits what it tells."""

    def __init__(self, folder: Path, loop: str, server: socket.socket, event: int | None) -> None:
        path = folder / f"resumed-{loop}"
        path.write_bytes(bytes(4096))
        self._socket = server
        self._page = map_numbers(folder / "page", write=False)
        self._resumed = Resumed(path)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "loop", loop, str(folder), str(event)],
            pass_fds=() if event is None else (event,),
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"waiting\n"

    def median(self) -> float:
        times = sorted(self.take() for _ in range(CHANGES))
        return times[CHANGES // 2]

    def take(self) -> float:
        """Asks for a change, and says how many nanoseconds later the task was resumed."""
        page, resumed = self._page, self._resumed
        pause = time.monotonic_ns() + PAUSE
        while time.monotonic_ns() < pause:
            pass
        before, times = page[0], resumed.times
        self._socket.send(REQUEST)
        lost = time.monotonic_ns() + LOST
        while page[0] == before:
            if time.monotonic_ns() > lost:
                raise RuntimeError("the generation was not changed")
        changed = time.monotonic_ns()
        lost = changed + LOST
        while resumed.times == times:
            if time.monotonic_ns() > lost:
                raise RuntimeError("the task was not resumed")
        self._socket.recv(256)
        # Not at all, if our processor was taken from us meanwhile: a quotient needs something.
        return float(max(resumed.at - changed, 1))

    def end(self) -> None:
        self._process.communicate()


def on_broker(loop: str, folder: Path) -> Subject:
    """One watcher on a broker of its own: a change wakes nobody else."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    control.connect(os.fspath(folder / "control.sock"))
    return Subject(folder, loop, control, None)


def stand_in() -> Path:
    """The server that the Rust bench has: one in Python would be slower than the broker."""
    built = Path(__file__).parents[2] / "target/release/sysgenid-bench-stand-in"
    program = Path(os.environ.get("SYSGENID_BENCH_STAND_IN", built))
    if not program.exists():
        sys.exit("no stand-in: cargo build --release -p sysgenid-benches --bins")
    return program


def on_eventfd(loop: str, folder: Path) -> Subject:
    folder.mkdir()
    (folder / "page").write_bytes(bytes(4096))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    subprocess.Popen([stand_in(), folder / "page"], stdin=theirs.fileno(), stdout=event)
    theirs.close()
    return Subject(folder, loop, ours, event)


async def await_broker(folder: Path, resumed: Resumed) -> None:
    from sysgenid import aio

    watcher = aio.Watcher(folder)
    print("waiting", flush=True)
    while True:
        change = await watcher.changed()
        resumed.now()
        # False, if the processor was taken from us meanwhile.
        change.acknowledge()


async def await_eventfd(event: int, resumed: Resumed) -> None:
    loop = asyncio.get_running_loop()
    waiting = loop.create_future()

    def take() -> None:
        os.eventfd_read(event)
        waiting.set_result(None)

    loop.add_reader(event, take)
    print("waiting", flush=True)
    while True:
        await waiting
        resumed.now()
        waiting = loop.create_future()


def run_loop(name: str, folder: Path, event: int | None) -> None:
    """Is a loop until standard input ends."""
    resumed = Resumed(folder / f"resumed-{name}", write=True)
    task: Callable[[], Awaitable[None]]
    if event is None:
        task = functools.partial(await_broker, folder, resumed)
    else:
        task = functools.partial(await_eventfd, event, resumed)

    async def main() -> None:
        ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)
        tasks = [asyncio.ensure_future(it) for it in (task(), ended.wait())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for it in tasks:
            it.cancel()

    if name == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


def main() -> int:
    bounds = Bounds()
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < 2:
        bounds.fact("waking a task in Python", "not measured: it takes two processors")
        return 0
    ours, theirs = processors[:2]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.sched_setaffinity(0, {theirs})
        brokers = {loop: Broker(folder / f"served-{loop}") for loop in ("asyncio", "uvloop")}
        scenes = {
            loop: (on_broker(loop, broker.folder), on_eventfd(loop, folder / loop))
            for loop, broker in brokers.items()
        }
        os.sched_setaffinity(0, {ours})
        for loop, (watcher, eventfd) in scenes.items():
            bounds.ratio(
                f"change to task resumed, to eventfd to task resumed, {loop}",
                1.3,
                watcher.median,
                eventfd.median,
            )
        sides: dict[str, Side] = {}
        for loop, (watcher, eventfd) in scenes.items():
            sides[f"eventfd and loop.add_reader, {loop}"] = eventfd.median
            sides[f"sysgenid.aio.Watcher, {loop}"] = watcher.median
        bounds.times("wake a task in Python", sides)
        for pair in scenes.values():
            for subject in pair:
                subject.end()
        for broker in brokers.values():
            broker.stop()
    return bounds.verdict()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["loop", name, folder, event]:
            run_loop(name, Path(folder), None if event == "None" else int(event))
        case _:
            sys.exit(main())
