# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The source of the whole package."""

from __future__ import annotations

import os
from os import PathLike

from ._native import source_is_taken

__all__ = ["configure"]


def configure(*, source: str | PathLike[str]) -> None:
    """Names the source for all of this package, and for the processes that are started from here.

    It is what `SYSGENID_SOURCE` does in the environment, and takes its place. It is called before
    anything looks for a source, so at the beginning of the program.

    Raises `RuntimeError` if something has looked already: a restore would be seen in one half of
    the program and not in the other. To name the same source again is fine.

    >>> import sysgenid
    >>> sysgenid.generation() >= 0
    True
    >>> sysgenid.configure(source="/run/another")
    Traceback (most recent call last):
    RuntimeError: the process has looked for its source already: configure it before the first use
    """
    path = os.fspath(source)
    if not isinstance(path, str):
        raise TypeError("a source is named by a string or a path")
    if not path:
        raise ValueError("a source has a path")
    if os.environ.get("SYSGENID_SOURCE") == path:
        return
    if source_is_taken():
        raise RuntimeError(
            "the process has looked for its source already: configure it before the first use"
        )
    os.environ["SYSGENID_SOURCE"] = path
