# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The annotations, for those who ask for them when a program runs."""

from __future__ import annotations

import inspect
import typing

import pytest
from test_documentation import PUBLIC

#: What has annotations: not what is native, nor what inherits a signature from there.
ANNOTATED = {
    name: thing
    for name, thing in PUBLIC.items()
    if inspect.isfunction(inspect.unwrap(thing)) or inspect.isclass(thing)  # type: ignore[arg-type]
}


def hinted(thing: object) -> list[object]:
    """It, and if it is a class, its own special methods, which are public as well."""
    if not inspect.isclass(thing):
        return [inspect.unwrap(thing)]  # type: ignore[arg-type]
    special = [value for name, value in vars(thing).items() if name.startswith("__")]
    properties = [value.fget for value in vars(thing).values() if isinstance(value, property)]
    methods = [getattr(value, "__func__", value) for value in vars(thing).values()]
    functions = filter(inspect.isfunction, [*special, *properties, *methods])
    # Not what the standard library has made for a tuple.
    own = [it for it in functions if it.__globals__["__name__"].startswith("sysgenid")]
    return [thing, *own]


def test_there_are_some() -> None:
    assert len(ANNOTATED) > 60


@pytest.mark.parametrize("name", ANNOTATED)
def test_the_types_can_be_asked_for(name: str) -> None:
    for thing in hinted(ANNOTATED[name]):
        typing.get_type_hints(thing)
        for overload in getattr(typing, "get_overloads", lambda _: [])(thing):
            typing.get_type_hints(overload)
