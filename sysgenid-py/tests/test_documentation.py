# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Everything public is documented, and the examples in the documentation do what they say."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
import sysgenid


def modules() -> Iterator[str]:
    yield "sysgenid"
    for module in pkgutil.iter_modules(sysgenid.__path__, "sysgenid."):
        if not module.name.rpartition(".")[2].startswith("_"):
            yield module.name


def members(name: str, thing: object) -> Iterator[tuple[str, object]]:
    """It, and if it is a class, what the class itself has that is public."""
    yield name, thing
    if inspect.isclass(thing):
        for member, value in vars(thing).items():
            if not member.startswith("_") and (callable(value) or inspect.isdatadescriptor(value)):
                yield f"{name}.{member}", value


def public() -> dict[str, object]:
    """What is public, by name; each thing once, however often it is exported."""
    things: dict[int, tuple[str, object]] = {}
    for module_name in modules():
        module = importlib.import_module(module_name)
        things.setdefault(id(module), (module_name, module))
        for exported in getattr(module, "__all__", ()):
            thing = getattr(module, exported)
            if callable(thing) or inspect.isclass(thing):
                for name, member in members(f"{module_name}.{exported}", thing):
                    things.setdefault(id(member), (name, member))
    return dict(things.values())


PUBLIC = public()
EXAMPLES = {name: doc for name, it in PUBLIC.items() if ">>>" in (doc := inspect.getdoc(it) or "")}


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_is_documented(name: str) -> None:
    assert inspect.getdoc(PUBLIC[name])


@pytest.mark.broker_only
@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_docstrings(name: str) -> None:
    run(name, EXAMPLES[name])


def run(name: str, text: str) -> None:
    test = doctest.DocTestParser().get_doctest(text, {"__name__": "__main__"}, name, name, 0)
    assert test.examples
    report: list[str] = []
    flags = doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL
    runner = doctest.DocTestRunner(optionflags=flags)
    failed, _ = runner.run(test, out=report.append)
    assert not failed, "".join(report)
