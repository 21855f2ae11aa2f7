# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`SYSGENID_PROTECT=1`: interpreters that are protected before anything of the program runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import support
import sysgenid

# The package must be installed where an interpreter looks for such files when it starts.
pytestmark = pytest.mark.broker_only

HOOK = Path(sysgenid.__file__).parents[1] / "sysgenid.pth"

WHAT_PROTECTS = "import random; print(type(random._inst).__module__)"


def python(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: it for name, it in os.environ.items() if name != "SYSGENID_PROTECT"}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=support.patient(120),
        env={**environment, **variables},
    )


def told(ended: subprocess.CompletedProcess[str]) -> str:
    assert (ended.stderr, ended.returncode) == ("", 0)
    return ended.stdout.strip()


@pytest.mark.parametrize("arguments", [[], ["-I"], ["-W", "error"], ["-O"]])
def test_an_interpreter_protects_itself_when_it_starts(arguments: list[str]) -> None:
    protected = python(*arguments, "-c", WHAT_PROTECTS, SYSGENID_PROTECT="1")
    assert told(protected) == "sysgenid.random"


@pytest.mark.parametrize("value", [None, "", "0"])
def test_nothing_is_done_unless_it_is_asked_for(value: str | None) -> None:
    variables = {} if value is None else {"SYSGENID_PROTECT": value}
    assert told(python("-c", WHAT_PROTECTS, **variables)) == "random"
    imported = "import sys; print([it for it in sys.modules if it.startswith('sysgenid')])"
    assert told(python("-c", imported, **variables)) == "[]"


def test_an_interpreter_without_site_packages_starts() -> None:
    assert told(python("-S", "-c", WHAT_PROTECTS, SYSGENID_PROTECT="1")) == "random"
    assert told(python("-I", "-S", "-c", WHAT_PROTECTS, SYSGENID_PROTECT="1")) == "random"


def test_a_file_that_is_left_without_its_package_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / HOOK.name).write_text(HOOK.read_text())
    add = f"import site; site.addsitedir({str(tmp_path)!r}); print('started')"
    assert told(python("-S", "-c", add)) == "started"
    missing = python("-S", "-c", add, SYSGENID_PROTECT="1")
    assert (missing.stdout.strip(), missing.returncode) == ("started", 0)
    assert "No module named 'sysgenid'" in missing.stderr


@pytest.mark.parametrize("arguments", [[], ["-W", "error"]])
def test_a_source_that_is_not_there_is_told(arguments: list[str]) -> None:
    ended = python(
        *arguments, "-c", WHAT_PROTECTS, SYSGENID_PROTECT="1", SYSGENID_SOURCE="/nonexistent"
    )
    assert (ended.stdout.strip(), ended.returncode) == ("sysgenid.random", 0)
    assert "only forks are sure to be seen: [Errno 2]" in ended.stderr
    assert "'/nonexistent'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_broken_source_is_told(tmp_path: Path) -> None:
    (tmp_path / "page").write_bytes(b"no page")
    ended = python(
        "-c", WHAT_PROTECTS, SYSGENID_PROTECT="1", SYSGENID_SOURCE=str(tmp_path / "page")
    )
    assert (ended.stdout.strip(), ended.returncode) == ("sysgenid.random", 0)
    assert "only forks are sure to be seen: " in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_package_that_cannot_be_imported_is_told() -> None:
    # As site does it, where the native part is of another interpreter.
    broken = (
        "import site, sys; sys.modules['sysgenid._native'] = None;"
        f"site.addsitedir({str(HOOK.parent)!r}); print('started')"
    )
    ended = python("-S", "-c", broken, SYSGENID_PROTECT="1")
    assert (ended.stdout.strip(), ended.returncode) == ("started", 0)
    assert "sysgenid._native" in ended.stderr


def test_an_interpreter_starts_without_anywhere_to_write(tmp_path: Path) -> None:
    script = f'exec "{sys.executable}" -c "{WHAT_PROTECTS}" 2>&-'
    variables = {**os.environ, "SYSGENID_PROTECT": "1", "SYSGENID_SOURCE": "/nonexistent"}
    ended = subprocess.run(["sh", "-c", script], env=variables, capture_output=True, text=True)
    assert (ended.stdout.strip(), ended.returncode) == ("sysgenid.random", 0)


CHILDREN = """
import json, multiprocessing, random, sys
import sysgenid

# The child runs this as well, before the function.
WHEN_IMPORTED = type(random._inst).__module__, random.random.__class__.__name__

def child(number):
    random.seed(42)
    control = random.Random(42)
    before = random.random() == control.random()
    sysgenid.trigger()
    return WHEN_IMPORTED[0], before, random.random() == control.random()

def draw(number):
    return random.getrandbits(64)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with context.Pool(1) as pool:
        outcome = pool.map(child, [0])[0]
    with context.Pool(3) as pool:
        drawn = pool.map(draw, range(3), chunksize=1)
    print(json.dumps([*outcome, len(set(drawn))]))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_children_of_multiprocessing_are_protected_before_the_program_runs(
    method: str, tmp_path: Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(CHILDREN)
    # That its seed is renewed is a warning.
    variables = {"SYSGENID_PROTECT": "1", "PYTHONWARNINGS": "ignore::RuntimeWarning"}
    protected = json.loads(told(python(str(program), method, **variables)))
    assert protected == ["sysgenid.random", True, False, 3]
    control = json.loads(told(python(str(program), method)))
    assert control[:3] == ["random", True, True], "an unprotected child repeats its numbers"
