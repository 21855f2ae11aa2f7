# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m sysgenid`, beside the command whose words it uses."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import support
import sysgenid
from support import Broker, patient


def run(
    *arguments: str, program: list[str] | None = None, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*(program or [sys.executable, "-m", "sysgenid"]), *arguments],
        capture_output=True,
        text=True,
        timeout=patient(20),
        env={**os.environ, **variables},
    )


def of_the_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run(*arguments, program=[str(support.command()), "status"])


@pytest.mark.parametrize("format", [(), ("--json",)])
def test_it_says_what_the_command_says(broker: Broker, format: tuple[str, ...]) -> None:  # noqa: A002
    with sysgenid.Watcher(broker.source), sysgenid.Orchestrator(broker.source) as orchestrator:
        orchestrator.trigger()
        ours = run("--source", broker.source, *format)
        theirs = of_the_command("--source", broker.source, *format)
    assert (ours.stderr, ours.returncode) == ("", 0)
    # What a broker follows, and when and why it changed last, only the command says.
    if format:
        status, wanted = json.loads(ours.stdout), json.loads(theirs.stdout)
        of_the_broker = {name: wanted[name] for name in ("followers", "failed", "cause", "changed")}
        assert status | of_the_broker == wanted
        assert (status["kind"], status["outdated"], status["generation"]) == ("broker", 1, 1)
    else:
        assert "userspace driver" in ours.stdout
        assert theirs.stdout.startswith(ours.stdout)
        assert "\nfollowers " not in ours.stdout


def test_the_source_that_it_finds(source: str) -> None:
    ended = run("--json")
    assert json.loads(ended.stdout)["source"] == source


@pytest.mark.broker_only
def test_a_page_file_has_no_watchers(broker: Broker) -> None:
    page = str(broker.folder / "page")
    ours, theirs = run("--source", page), of_the_command("--source", page)
    assert "watchers    not told by this source\n" in ours.stdout
    assert ours.stdout == theirs.stdout
    assert (
        run("--source", page, "--json").stdout == of_the_command("--source", page, "--json").stdout
    )


def test_without_a_source_it_says_what_to_do(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    for ended in (run("--source", missing), run(SYSGENID_SOURCE=missing)):
        assert (ended.stdout, ended.returncode) == ("", 3)
        assert ended.stderr.startswith(f"sysgenid: {missing}: not found; load the kernel driver")
        assert "`sysgenid serve`" in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert run("--nonsense").returncode == 2
    assert run("--timeout", "soon").returncode == 2
    assert run("--timeout", "-1").returncode == 2
    for source in (str(tmp_path / "empty"), "/dev/null"):
        ended = run("--source", source)
        assert (ended.stdout, ended.returncode) == ("", 6), source
        assert ended.stderr.count("\n") == 1


@pytest.mark.broker_only
def test_codes_and_messages_are_those_of_the_command(broker: Broker, tmp_path: Path) -> None:
    broker.kill()
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    names = ["empty", "folder", "missing"]
    for source in (broker.source, *(str(tmp_path / name) for name in names), "/dev/null"):
        ours, theirs = run("--source", source), of_the_command("--source", source)
        assert ours.returncode == theirs.returncode != 0
        assert ours.stderr == theirs.stderr
        assert ours.stdout == theirs.stdout
        ours, theirs = (
            run("--source", source, "--json"),
            of_the_command("--source", source, "--json"),
        )
        assert ours.stdout == theirs.stdout


def hanging(folder: Path) -> socket.socket:
    """A broker that does not answer."""
    folder.mkdir()
    (folder / "page").write_bytes(bytes(4096))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(folder / "watch.sock"))
    listener.listen()
    return listener


def test_one_that_does_not_answer_is_waited_for_until_the_timeout(tmp_path: Path) -> None:
    with hanging(tmp_path / "hangs") as listener:
        ended = run("--source", str(tmp_path / "hangs"), "--timeout", "0.2")
        listener.settimeout(0)
        listener.accept()[0].close()
    assert "generation  0, as it was left; the driver does not answer\n" in ended.stdout
    assert ended.returncode == 7


def test_the_timeout_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str | None, float]] = []

    def status(source: str | None, timeout: float) -> sysgenid.Status:
        asked.append((source, timeout))
        raise sysgenid.TimedOutError(62, "the broker did not answer")

    monkeypatch.setattr(sysgenid, "status", status)
    for arguments in ([], ["--timeout", "0.2", "--source", "here"]):
        monkeypatch.setattr(sys, "argv", ["sysgenid", *arguments])
        assert importlib.import_module("sysgenid.__main__").main() == 7
    assert asked == [(None, 5.0), ("here", 0.2)]


def test_ctrl_c_is_no_traceback(tmp_path: Path) -> None:
    with hanging(tmp_path / "hangs") as listener:
        asking = subprocess.Popen(
            [sys.executable, "-m", "sysgenid", "--source", str(tmp_path / "hangs")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        listener.settimeout(patient(20))
        with listener.accept()[0]:
            # Between Python's look for a signal and its sleep, a signal stays unnoticed for long.
            stat = Path(f"/proc/{asking.pid}/stat")
            support.eventually(
                lambda: stat.read_text().rpartition(")")[2].split()[0] == "S", "it does not wait"
            )
            asking.send_signal(signal.SIGINT)
            out, err = asking.communicate(timeout=patient(3))
    assert (out, err, asking.returncode) == ("", "", -signal.SIGINT)


def test_a_closed_pipe_is_quiet(source: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "sysgenid"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        timeout=patient(20),
    )
    os.close(writer)
    assert (ended.stderr, ended.returncode) == ("", 0)


def test_a_full_disk_behind_standard_output_is_an_error(source: str) -> None:
    # Buffered, as it is unless somebody asked: what is left in there must not be tried again.
    buffered = {name: it for name, it in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "sysgenid"],
            env=buffered,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=patient(20),
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith("sysgenid: standard output: ")
    assert ended.stderr.count("\n") == 1


def test_help_and_version() -> None:
    assert "Exit codes:" in run("--help").stdout
    assert run("--version").stdout == f"sysgenid {sysgenid.__version__}\n"
