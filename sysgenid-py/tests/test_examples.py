# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Every example, run against a broker."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import support
import sysgenid
import telling
from support import Broker, eventually, patient

FOLDER = Path(__file__).parents[2] / "examples/python"
EXAMPLES = sorted(path.name for path in FOLDER.glob("*.py"))

pytestmark = pytest.mark.broker_only


class Example:
    """A script that runs, and whose lines are looked at one after the other."""

    def __init__(self, name: str, source: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", FOLDER / name, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "SYSGENID_SOURCE": source},
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=[self.process.stdout, self._lines.put]),
            threading.Thread(target=self._read, args=[self.process.stderr, self._errors.append]),
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: Any, put: Callable[[str], object]) -> None:
        for line in stream:
            put(line.rstrip("\n"))
        stream.close()

    def line(self) -> str:
        return self._lines.get(timeout=patient(20))

    def expect(self, start: str) -> str:
        """The rest of the next line, which begins so."""
        line = self.line()
        assert line.startswith(start), line
        return line[len(start) :]

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def ends(self) -> tuple[int, str]:
        """Its exit code and what it said on standard error; nothing more on standard output."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(patient(20))
        for reader in self._readers:
            reader.join()
        assert self._lines.empty(), self._lines.get()
        return code, "\n".join(self._errors)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.ends()


Start = Callable[..., Example]


@pytest.fixture
def start(broker: Broker) -> Iterator[Start]:
    """Starts an example on a broker of the test's own."""
    started: list[Example] = []

    def start(name: str, *arguments: str, source: str = broker.source) -> Example:
        started.append(Example(name, source, *arguments))
        return started[-1]

    yield start
    for example in started:
        example.kill()


@pytest.fixture
def conductor(broker: Broker) -> Iterator[sysgenid.Orchestrator]:
    with sysgenid.Orchestrator(broker.source) as orchestrator:
        yield orchestrator


def change(orchestrator: sysgenid.Orchestrator) -> int:
    """Changes the generation, and waits until those who watch have acknowledged."""
    orchestrator.trigger()
    return orchestrator.settle(patient(20)).generation


def three_different(example: Example, orchestrator: sysgenid.Orchestrator, what: str) -> None:
    seen = [example.expect(f"generation {change(orchestrator)}: {what} ") for _ in range(3)]
    assert len(set(seen)) == 3
    assert example.ends() == (0, "")


def test_watchdog_thread(start: Start, conductor: sysgenid.Orchestrator) -> None:
    example = start("watchdog_thread.py")
    example.expect("watching from generation 0")
    three_different(example, conductor, "session")


def test_watchdog_thread_outlives_its_broker(
    start: Start, broker: Broker, conductor: sysgenid.Orchestrator
) -> None:
    example = start("watchdog_thread.py")
    example.expect("watching from generation 0")
    broker.kill()
    broker.start()
    conductor.reconnect(patient(20))
    seen = []
    for _ in range(3):
        conductor.trigger()
        seen.append(example.expect(f"generation {conductor.generation}: session "))
    assert len(set(seen)) == 3
    code, complaints = example.ends()
    assert code == 0
    assert "restores are not seen until the broker is there again" in complaints


def test_poll_event_loop(start: Start, conductor: sysgenid.Orchestrator) -> None:
    example = start("poll_event_loop.py")
    example.expect("ready at generation 0")
    tokens = []
    for _ in range(3):
        example.say("request")
        tokens.append(example.expect("answered with token "))
        example.expect(f"generation {change(conductor)}: token replaced")
    assert len(set(tokens)) == 3
    assert example.ends() == (0, "")


def test_answer_requests(start: Start, conductor: sysgenid.Orchestrator) -> None:
    example = start("answer_requests.py")
    path, _, generation = example.expect("serving ").partition(" at generation ")
    assert generation == "0"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(patient(20))
        client.connect(path)
        tokens = []
        for _ in range(3):
            client.send(b"request\n")
            tokens.append(client.recv(512))
            example.expect(f"generation {change(conductor)}: token replaced")
    assert len(set(tokens)) == 3
    assert example.ends() == (0, "")


def test_answer_requests_outlives_its_broker(
    start: Start, broker: Broker, conductor: sysgenid.Orchestrator
) -> None:
    example = start("answer_requests.py")
    example.expect("serving ")
    for _ in range(3):
        broker.kill()
        time.sleep(0.2)  # until it has found nothing
        broker.start()
        conductor.reconnect(patient(20))
        generation = conductor.trigger()
        example.expect(f"generation {generation}: token replaced")
    assert example.ends() == (0, "")


def test_check_mapped_counter(start: Start, conductor: sysgenid.Orchestrator) -> None:
    example = start("check_mapped_counter.py")
    example.expect("generation 0: a key")
    for generation in (1, 2, 3):
        conductor.trigger()
        example.expect(f"generation {generation}: another key")
    assert example.ends() == (0, "")


def test_guard_cached_secret(start: Start, conductor: sysgenid.Orchestrator) -> None:
    example = start("guard_cached_secret.py")
    keys = [example.expect("generation 0: key ")]
    for generation in (1, 2, 3):
        conductor.trigger()
        keys.append(example.expect(f"generation {generation}: key "))
    assert len(set(keys)) == 4
    assert example.ends() == (0, "")


def test_orchestrate_restore(start: Start, broker: Broker) -> None:
    service = start("watchdog_thread.py")
    service.expect("watching from generation 0")
    example = start("orchestrate_restore.py")
    example.expect("quiesced at generation 0")
    example.expect("generation 1: node ")
    example.expect("1 have acknowledged generation 1: resumed")
    assert example.ends() == (0, "")
    service.expect("generation 1: session ")


def test_orchestrate_restore_needs_a_service(start: Start) -> None:
    example = start("orchestrate_restore.py")
    example.expect("quiesced at generation 0")
    example.expect("generation 1: node ")
    code, complaint = example.ends()
    assert code == 1
    assert "0 tracked watchers have acknowledged, and 1 are required" in complaint


def test_orchestrate_restore_names_who_is_missing(start: Start, broker: Broker) -> None:
    with sysgenid.Watcher(broker.source):
        example = start("orchestrate_restore.py")
        example.expect("quiesced at generation 0")
        example.expect("generation 1: node ")
        missing = example.expect("not ready: ")
        assert missing.endswith(f"(pid {os.getpid()}), at generation 0")
        code, complaint = example.ends()
    assert code == 1
    assert "tracked watchers had not acknowledged" in complaint


def test_run_sandbox_agent(start: Start, broker: Broker, conductor: sysgenid.Orchestrator) -> None:
    with sysgenid.Watcher(broker.source) as worker:
        agent = start("run_sandbox_agent.py", str(patient(20)))
        assert json.loads(agent.line()) == {"event": "started", "generation": 0}
        agent.say("prepare")
        assert json.loads(agent.line()) == {"event": "prepared"}
        agent.say("dance")
        assert json.loads(agent.line()) == {"event": "unknown", "command": "dance"}
        for generation in (1, 2):
            conductor.trigger()
            assert telling.wait(worker, patient(20)) == generation
            telling.acknowledge(worker)
            ready = json.loads(agent.line())
            assert ready.pop("seconds") > 0
            assert ready == {"event": "ready", "generation": generation, "watchers": 1}
    assert agent.ends() == (0, "")


def test_run_sandbox_agent_names_who_is_late(
    start: Start, broker: Broker, conductor: sysgenid.Orchestrator
) -> None:
    with sysgenid.Watcher(broker.source):
        agent = start("run_sandbox_agent.py", "0.2")
        agent.line()
        conductor.trigger()
        late = json.loads(agent.line())
        assert late["event"] == "late"
        (straggler,) = late["stragglers"]
        assert (straggler["pid"], straggler["acknowledged"]) == (os.getpid(), 0)
        assert straggler["uid"] == os.geteuid()
        assert straggler["command"]
    assert agent.ends() == (5, "")


def test_survive_restores(start: Start, tmp_path: Path) -> None:
    directory = tmp_path / "late"
    example = start("survive_restores.py", source=str(directory))
    seen: set[str] = set()

    def answer(request: str = "request") -> tuple[str, str]:
        example.say(request)
        token, session = example.expect("token ").split(" session ")
        return token, session

    def answers_anew(request: str = "request") -> None:
        for number in answer(request):
            assert number not in seen
            seen.add(number)

    def settles() -> None:
        with sysgenid.Orchestrator(directory, require_watchers=1) as orchestrator:
            orchestrator.wait_for_watchers(patient(20))

    answers_anew()
    before = answer()
    assert seen.issuperset(before)
    broker = Broker(directory)
    try:
        # A source that appears counts as a change: nothing tells what happened before.
        eventually(lambda: answer() != before, "the source is noticed")
        seen.update(answer())
        sysgenid.trigger(directory)
        answers_anew()
        settles()
        # A restart is no change, and one that comes after it is seen and acknowledged.
        broker.kill()
        assert seen.issuperset(answer())
        broker.start()
        assert seen.issuperset(answer())
        sysgenid.trigger(directory)
        answers_anew()
        settles()
        answers_anew("fork")
        assert seen.issuperset(answer())
        sysgenid.trigger(directory)
        answers_anew()
        # Python 3.12 and later warn of the fork, because the background is another thread.
        assert example.ends()[0] == 0
    finally:
        broker.stop()


@pytest.mark.parametrize("name", [name for name in EXAMPLES if name != "survive_restores.py"])
def test_without_a_source_it_says_so(start: Start, name: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    code, complaint = start(name, source=missing).ends()
    assert code == 1
    assert missing in complaint
    assert "sysgenid serve" in complaint
    assert "Traceback" not in complaint


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_short_and_is_run(name: str) -> None:
    code = (FOLDER / name).read_text().partition("\nfrom __future__ import annotations\n")[2]
    lines = [line for line in code.splitlines() if line]
    assert 20 < len(lines) <= (70 if "agent" in name else 45)
    assert f'start("{name}"' in Path(__file__).read_text()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 7
    assert support.command() is not None
