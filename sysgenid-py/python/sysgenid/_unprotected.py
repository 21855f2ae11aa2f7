# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The warning that generators with a seed draw the same numbers in every clone."""

from __future__ import annotations

import warnings

from .errors import UnprotectedWarning

_given = False


def warn(stacklevel: int = 2) -> None:
    """To be called by what has found out that no source shows restores. It warns once."""
    global _given
    if _given:
        return
    _given = True
    warnings.warn(
        "no source shows restores, so clones of this process draw the same numbers from "
        "sysgenid.random; sysgenid.verify() says why, sysgenid.random.coverage() what is covered",
        UnprotectedWarning,
        stacklevel=stacklevel,
    )
