# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What the package believes when it looks for a source, in processes of their own."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import support
import sysgenid

#: Prints where the source is that a watcher and a probe would take, or why there is none.
SCRIPT = """
import sysgenid
for ask in (lambda: sysgenid.Watcher().path, lambda: sysgenid.status().path):
    try:
        print(ask())
    except sysgenid.Error as error:
        print(type(error).__name__)
"""


def looked(
    environment: dict[str, str], *, program: str = sys.executable, cwd: Path | None = None
) -> list[str]:
    """What a process with this environment finds, beside what every process finds here."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in ("SYSGENID_SOURCE", "XDG_RUNTIME_DIR")
    }
    told = subprocess.run(
        [program, "-c", SCRIPT],
        env=inherited | environment,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=support.patient(30),
        check=True,
    )
    lines = told.stdout.splitlines()
    assert len(lines) == 2
    return lines


def test_a_runtime_directory_that_is_not_absolute_is_none(broker: support.Broker) -> None:
    above = broker.folder.parent
    broker.folder.rename(above / "sysgenid")
    (above / "sysgenid").chmod(0o755)
    usual = looked({})
    for directory in ("", ".", "./", "sysgenid/.."):
        assert looked({"XDG_RUNTIME_DIR": directory}, cwd=above) == usual


def test_a_path_that_is_too_long_for_a_socket(broker: support.Broker, tmp_path: Path) -> None:
    long = tmp_path / ("d" * 120)
    long.mkdir()
    shutil.copy(broker.folder / "page", long)
    for opener in (sysgenid.Watcher, sysgenid.Orchestrator, sysgenid.status):
        with pytest.raises(sysgenid.UnsupportedError, match="107 bytes") as caught:
            opener(str(long))
        assert caught.value.errno == errno.ENAMETOOLONG
    assert sysgenid.Probe(str(long)).generation >= 0


if os.getuid() == 0:

    def test_a_program_with_more_rights_than_its_caller(
        broker: support.Broker, tmp_path: Path
    ) -> None:
        program = tmp_path / "python"
        shutil.copy(os.path.realpath(sys.executable), program)
        packages = Path(sysgenid.__file__).parents[1]
        python = {"PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(packages)}
        named = python | {"SYSGENID_SOURCE": broker.source}
        assert looked(named, program=str(program)) == [broker.source] * 2
        usual = looked(python, program=str(program))
        # From here on the kernel starts it with the rights of another group.
        os.chown(program, -1, 65534)
        program.chmod(0o2755)
        assert looked(named, program=str(program)) == usual

    def test_a_directory_of_another_user(broker: support.Broker) -> None:
        above = broker.folder.parent
        served = broker.folder.rename(above / "sysgenid")
        served.chmod(0o755)
        environment = {"XDG_RUNTIME_DIR": str(above)}
        if looked({}) != ["AbsentError"] * 2:
            # What every process finds here comes first.
            return
        assert looked(environment) == [str(served)] * 2
        os.chown(served, 65534, -1)
        assert looked(environment) == ["WrongKindError"] * 2
        os.chown(served, 0, -1)
        served.chmod(0o777)
        assert looked(environment) == ["WrongKindError"] * 2
