# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The reference in the book has every public name, as it is."""

from __future__ import annotations

import inspect

import pytest
import reference
from test_documentation import PUBLIC


@pytest.fixture(scope="module")
def page() -> str:
    return reference.render()


def test_the_page_is_what_the_package_says(page: str) -> None:
    # Not compared by pytest, which would explain thousands of lines.
    is_current = reference.PAGE.read_text() == page
    assert is_current, "python sysgenid-py/tests/reference.py writes the page anew: commit it"


def test_every_public_name_is_on_it(page: str) -> None:
    headings = {line.strip("# `") for line in page.splitlines() if line.startswith("#")}
    of_random = set(__import__("random").__all__)
    missing = []
    for name, thing in PUBLIC.items():
        if inspect.ismodule(thing):
            continue
        module, _, rest = name.partition(".")
        for other in reference.MODULES[1:]:
            if name.startswith(f"{other}."):
                module, rest = other, name[len(other) + 1 :]
        is_stdlib = module == "sysgenid.random" and rest.partition(".")[0] in of_random - {"Random"}
        if rest and not is_stdlib and name not in headings and rest not in headings:
            missing.append(name)
    assert missing == []


def test_signatures_are_those_of_callers(page: str) -> None:
    for line in [
        "wait(timeout: float | timedelta | None = None) -> Change",
        "async def changed() -> Change",
        "fork(function: Callable[_P, _R], /, *args: _P.args, **kwargs: _P.kwargs) -> _R",
        "class DeniedError(Error, PermissionError)",
    ]:
        assert f"\n{line}\n" in page
    assert "deprecated" not in page
