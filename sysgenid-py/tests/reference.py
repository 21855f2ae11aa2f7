# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The page about every public name: `python reference.py` writes it.

The signatures are those of the sources and of the stubs, which stubtest compares with the native
module. What is said of each name is its documentation. `test_reference.py` fails if the page is not
what this makes.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TypeAlias

import sysgenid

PAGE = Path(__file__).parents[2] / "docs/src/python-reference.md"

#: What is shown, in this order; a name is shown where it is first.
MODULES = ["sysgenid", "sysgenid.aio", "sysgenid.hooks", "sysgenid.random", "sysgenid.testing"]
MODULES.append("sysgenid.pytest_plugin")

_BEGINNING = """\
# Python reference

Every public name of the [Python package](python.md), with its signature. This page is made from the
documentation that `help()` shows.
"""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = Function | ast.ClassDef


@cache
def parsed(module: str) -> ast.Module:
    """The sources of a module, or the stub of the native one."""
    folder = Path(sysgenid.__path__[0])
    name = module.partition(".")[2] or "__init__"
    path = folder / f"{name}.pyi" if (folder / f"{name}.pyi").is_file() else folder / f"{name}.py"
    return ast.parse(path.read_text())


def definitions(module: str, name: str) -> list[tuple[str, Definition]]:
    """Where a name comes from, and what it is there: several, if it is overloaded."""
    found: list[tuple[str, Definition]] = []
    for node in ast.walk(parsed(module)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            if node.name == name and node.col_offset == 0:
                found.append((module, node))
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                source = f"sysgenid.{source}".rstrip(".")
            if not source.startswith("sysgenid"):
                continue
            for alias in node.names:
                if (alias.asname or alias.name) == name and source != module:
                    return definitions(source, alias.name)
    return found


def is_deprecated(function: Function) -> bool:
    """Whether this overload only says that something is refused."""
    return any("deprecated" in ast.unparse(decorator) for decorator in function.decorator_list)


def is_overload(function: Function) -> bool:
    """Whether there are others."""
    return any(ast.unparse(it) in ("overload", "typing.overload") for it in function.decorator_list)


def shown(functions: list[Function]) -> list[Function]:
    """Those with a signature for callers."""
    overloads = [it for it in functions if is_overload(it) and not is_deprecated(it)]
    return overloads or functions[:1]


def signature(name: str, function: Function, *, is_method: bool) -> str:
    """As it is called."""
    arguments = copy.deepcopy(function.args)
    if is_method:
        (arguments.posonlyargs or arguments.args).pop(0)
    listed = ast.unparse(arguments).removeprefix("/").lstrip(", ")
    listed = re.sub(r"(?<=[\w\])])=(?=\S)", " = ", listed)
    text = f"{name}({listed})"
    is_made = function.name in ("__init__", "__new__")
    if function.returns is not None and not is_made:
        text += f" -> {ast.unparse(function.returns)}"
    for alias, meaning in aliases().items():
        text = re.sub(rf"\b{alias}\b", meaning, text)
    return ("async def " if isinstance(function, ast.AsyncFunctionDef) else "") + text


@cache
def aliases() -> dict[str, str]:
    """What the stub has short names for."""
    nodes = [it for it in parsed("sysgenid._native").body if isinstance(it, ast.AnnAssign)]
    named = [it for it in nodes if ast.unparse(it.annotation) == "TypeAlias"]
    return {ast.unparse(it.target): ast.unparse(it.value) for it in named if it.value is not None}


def methods(module: str, node: ast.ClassDef) -> dict[str, list[Function]]:
    """Those of a class by name, with those that it inherits from others of the package."""
    found: dict[str, list[Function]] = {}
    for base in node.bases:
        # Others' bases are written with their modules.
        name = ast.unparse(base).partition("[")[0]
        for where, definition in definitions(module, name):
            if isinstance(definition, ast.ClassDef):
                found |= methods(where, definition)
    own: dict[str, list[Function]] = {}
    for member in node.body:
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)):
            own.setdefault(member.name, []).append(member)
    return found | own


def fenced(text: str) -> str:
    """Documentation as Markdown: what is indented, or begins a doctest, is code."""
    lines: list[str] = []
    block: list[str] = []

    def end() -> None:
        while block and not block[-1]:
            block.pop()
        if block:
            lines.extend(["```python", *block, "```", ""])
            block.clear()

    is_doctest = False
    for line in text.splitlines():
        if line.startswith(">>>"):
            is_doctest = True
        elif not line.strip():
            is_doctest = False
        begins_list = re.match(r" +(- |\S)", line) and lines and lines[-1].lstrip().startswith("- ")
        if is_doctest:
            block.append(line)
        elif line.startswith("    ") and not begins_list:
            block.append(line[4:])
        elif not line.strip() and block:
            block.append("")
        else:
            end()
            lines.append(line)
    end()
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def entry(
    level: int, title: str, signatures: list[str], documentation: str | None
) -> Iterator[str]:
    """A heading, how it is called, and what is said of it."""
    yield f"{'#' * level} `{title}`"
    if signatures:
        yield "```python\n" + "\n".join(signatures) + "\n```"
    if documentation:
        yield fenced(documentation)


def fields(node: ast.ClassDef) -> Iterator[tuple[str, str, str]]:
    """The public ones that are annotated in the class, with the text below each."""
    for member, below in zip(node.body, node.body[1:], strict=False):
        if not isinstance(member, ast.AnnAssign) or not isinstance(below, ast.Expr):
            continue
        name = ast.unparse(member.target)
        if isinstance(below.value, ast.Constant) and not name.startswith("_"):
            text = inspect.cleandoc(str(below.value.value))
            yield name, ast.unparse(member.annotation), text


def of_class(module: str, title: str, node: ast.ClassDef, kind: type) -> Iterator[str]:
    """A class and its members; of an exception only the class."""
    members = methods(module, node)
    bases = [
        it.__name__
        for it in kind.__bases__
        if issubclass(it, (sysgenid.Error, OSError, Warning, RuntimeError))
    ]
    made = members.get("__new__") or members.get("__init__") or []
    if bases:
        signatures = [f"class {title}({', '.join(bases)})"]
    else:
        signatures = [signature(title, it, is_method=True) for it in shown(made)]
    yield from entry(3, title, signatures, inspect.getdoc(kind))
    for name, annotation, text in fields(node):
        yield from entry(4, f"{title}.{name}", [f"{name}: {annotation}"], text)
    for name, functions in members.items():
        if name.startswith("_") or issubclass(kind, BaseException):
            continue
        decorators = {ast.unparse(it) for it in functions[0].decorator_list}
        documentation = inspect.getdoc(inspect.getattr_static(kind, name))
        if "property" in decorators:
            returns = functions[0].returns
            signatures = [f"{name}: {ast.unparse(returns)}"] if returns is not None else []
        else:
            is_method = "staticmethod" not in decorators
            signatures = [signature(name, it, is_method=is_method) for it in shown(functions)]
        yield from entry(4, f"{title}.{name}", signatures, documentation)


def render() -> str:
    """The page."""
    parts = [_BEGINNING]
    seen: set[int] = set()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        parts.append(f"## `{module_name}`")
        parts.append(fenced(inspect.getdoc(module) or ""))
        if module_name == "sysgenid.random":
            parts.append("All other names are those of the module `random`, with its signatures.")
        for name in sorted(module.__all__, key=lambda it: (it.lower(), it)):
            thing = getattr(module, name)
            found = definitions(module_name, name)
            if not found or id(thing) in seen:
                continue
            seen.add(id(thing))
            where, node = found[0]
            if isinstance(node, ast.ClassDef):
                parts.extend(of_class(where, name, node, thing))
                continue
            functions = [it for _, it in found if not isinstance(it, ast.ClassDef)]
            signatures = [signature(name, it, is_method=False) for it in shown(functions)]
            # A fixture's documentation is not that of its object.
            documentation = ast.get_docstring(functions[0]) or inspect.getdoc(thing)
            if is_overload(functions[0]):
                documentation = inspect.getdoc(thing)
            parts.extend(entry(3, name, signatures, documentation))
    return "\n\n".join(part.strip() for part in parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render())
    sys.exit(0)
